/**
 * Tries overlayfs on the file system of a data root, with the options Docker mounts with: the one thing here that writes (a
 * directory `.lamella-trial-*`, gone at once; the mount is attached nowhere). Only where this process may mount.
 */
import { knowsIndex } from "../../drivers/overlay2/host.ts";
import {
  inUserNamespace,
  makeTrialLayers,
  mayMount,
  seeMetacopy,
  seeRedirect,
  type TrialLayers,
  withTrialMount,
} from "../../drivers/overlay2/trial.ts";
import { withTrialDirectory } from "../../drivers/trial-directory.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import { AT_REMOVEDIR } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { OverlayTrial } from "../facts.ts";

/** Undefined where this process may not mount. */
export type TryOverlay = (root: string) => OverlayTrial | undefined;

export const tryOverlay: TryOverlay = (root) => {
  if (!mayMount()) return undefined;
  const options = [...(knowsIndex() ? ["index=off"] : []), ...(inUserNamespace() ? ["userxattr"] : [])];
  try {
    return withTrialDirectory(bytesOfText(root), (directory) => {
      removeInTrial(makeTrialLayers(directory, "removal"), options);
      const layers = makeTrialLayers(directory, "trial");
      return withTrialMount(layers, options, (rootFd) => ({
        redirects: seeRedirect(layers, rootFd).ok,
        metacopies: seeMetacopy(layers, rootFd).ok,
      }));
    });
  } catch (error) {
    return { error: (error as Error).message, redirects: false, metacopies: false };
  }
};

/**
 * Removes a directory of a lower layer and makes it anew, for which overlayfs exchanges it with a whiteout: where the file system
 * cannot (ZFS before OpenZFS 2.2, RENAME_EXCHANGE), it mounts all the same, and `rm -r` in containers fails. Errors: unimplemented.
 */
function removeInTrial(layers: TrialLayers, options: readonly string[]): void {
  withTrialMount(layers, options, (rootFd) => {
    try {
      sys.unlinkat(rootFd, "dir/file");
      sys.unlinkat(rootFd, "dir", AT_REMOVEDIR);
      sys.mkdirat(rootFd, "dir", 0o755);
    } catch (error) {
      const why = (error as Error).message;
      const message = `overlayfs mounts here, and directories of images cannot be removed: ${why}`;
      throw new LamellaError("unimplemented", "NO_REMOVAL", message, { cause: error });
    }
  });
}
