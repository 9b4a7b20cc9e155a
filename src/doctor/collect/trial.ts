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
  withTrialMount,
} from "../../drivers/overlay2/trial.ts";
import { withTrialDirectory } from "../../drivers/trial-directory.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import type { OverlayTrial } from "../facts.ts";

/** Undefined where this process may not mount. */
export type TryOverlay = (root: string) => OverlayTrial | undefined;

export const tryOverlay: TryOverlay = (root) => {
  if (!mayMount()) return undefined;
  const options = [...(knowsIndex() ? ["index=off"] : []), ...(inUserNamespace() ? ["userxattr"] : [])];
  try {
    return withTrialDirectory(bytesOfText(root), (directory) => {
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
