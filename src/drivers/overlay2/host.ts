/**
 * What the driver must know of the host before it can mount: found by one trial mount, and remembered in the home's
 * `.lamella/probes.json` for as long as the machine is up with the same kernel, the same privileges and the same device.
 */
import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { LamellaError } from "../../errors/lamella-error.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import { fileSystemName } from "../../fs/file-system-name.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, AT_REMOVEDIR } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { unsupported } from "../layer-errors.ts";
import { readSmallFile } from "../small-file.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import type { OverlayAbilities } from "./options.ts";
import type { Overlay2Host } from "./overlay2.ts";
import {
  inUserNamespace,
  makeTrialLayers,
  mayMount,
  reasonOf,
  seeDType,
  seeMetacopy,
  seeRedirect,
  withTrialMount,
} from "./trial.ts";

/** The sets of options a mount is tried with, the best first. */
export function candidates(userNamespace: boolean, index: boolean): string[][] {
  const base = index ? ["index=off"] : [];
  return userNamespace
    ? [[...base, "userxattr"]]
    : [[...base, "redirect_dir=on", "metacopy=on"], [...base, "redirect_dir=on"], base];
}

/** True when the kernel's overlay knows the option `index`, as far as can be seen: a module not loaded yet is taken to. */
export function knowsIndex(): boolean {
  return !existsSync("/sys/module/overlay/parameters") || existsSync("/sys/module/overlay/parameters/index");
}

/** Tries an overlay mount under `home`, for `driver`. Errors: failed_precondition with the reason of every attempt. */
function tryHost(home: ByteString, driver = "overlay2"): Overlay2Host {
  const userNamespace = inUserNamespace();
  const index = knowsIndex();
  const reasons: string[] = [];
  if (!mayMount())
    throw new LamellaError(
      "failed_precondition",
      "DRIVER_UNSUPPORTED",
      `${driver} does not work under ${textOfBytes(home)}: mounting needs CAP_SYS_ADMIN`,
      { hint: "run as root, or in a user and mount namespace of your own (`unshare -r -m`)" },
    );
  return withTrialDirectory(home, (directory) => {
    for (const [i, options] of candidates(userNamespace, index).entries()) {
      const layers = makeTrialLayers(directory, String(i));
      try {
        return withTrialMount(layers, options, (rootFd): Overlay2Host => {
          // ZFS before 2.2 lets overlays be mounted, and no directory of a lower layer be removed.
          sys.unlinkat(rootFd, "empty", AT_REMOVEDIR);
          const abilities: OverlayAbilities = {
            userxattr: userNamespace,
            redirectDir: options.includes("redirect_dir=on") && seeRedirect(layers, rootFd).ok,
            metacopy: options.includes("metacopy=on") && seeMetacopy(layers, rootFd).ok,
            index,
          };
          return {
            abilities,
            backingFileSystem: fileSystemName(sys.statfs(directory).type),
            supportsDType: seeDType(layers.lower).ok,
          };
        });
      } catch (error) {
        reasons.push(`with ${options.join(",")}: ${reasonOf(error)}`);
      }
    }
    throw new LamellaError(
      "failed_precondition",
      "DRIVER_UNSUPPORTED",
      `${driver} does not work under ${textOfBytes(home)}: ${reasons.join("; ")}`,
      { hint: "`lamella info --why` shows every probe; `--driver vfs` works anywhere, with full copies" },
    );
  });
}

/** What {@link rememberHost} wrote, if it still holds. */
function rememberedHost(home: ByteString): Overlay2Host | undefined {
  const text = readSmallFile(rememberedAt(home));
  return text === undefined ? undefined : parseRemembered(text, hostKey(home));
}

/** What `driver` must know of the host, asked once. Errors: failed_precondition. */
export function hostFor(driver: string, home: ByteString): Overlay2Host {
  const remembered = rememberedHost(home);
  const host = remembered ?? tryHost(home, driver);
  if (host.supportsDType) return host;
  const why = "the file system does not tell file types in directories (d_type)";
  const hint = "make it anew: mkfs.xfs with `-n ftype=1`, or ext4 with the feature `filetype`";
  throw unsupported(driver, home, why, hint);
}

/** Keeps what {@link tryHost} found. The home exists. */
export function rememberHost(home: ByteString, host: Overlay2Host): void {
  if (rememberedHost(home) !== undefined) return;
  const text = `${JSON.stringify({ key: hostKey(home), host })}\n`;
  writeDurably(rememberedAt(home), Buffer.from(text), { durable: false, mode: 0o600 });
}

function rememberedAt(home: ByteString): ByteString {
  return `${home}/.lamella/probes.json`;
}

function hostKey(home: ByteString): string {
  const stat = sys.statx(AT_FDCWD, home);
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  const userNamespace = inUserNamespace();
  return [boot, release(), `${stat.devMajor}:${stat.devMinor}`, userNamespace ? "userns" : "host"].join(" ");
}

function parseRemembered(text: string, key: string): Overlay2Host | undefined {
  try {
    const value = JSON.parse(text) as { key?: unknown; host?: Overlay2Host };
    return value.key === key && value.host?.abilities !== undefined ? value.host : undefined;
  } catch {
    return undefined;
  }
}
