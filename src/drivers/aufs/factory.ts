/** Makes aufs drivers. */
import { readFileSync } from "node:fs";
import { makeDirectory } from "../../fs/durable-file.ts";
import { fileSystemName } from "../../fs/file-system-name.ts";
import { umount } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory, ProbeResult } from "../driver.ts";
import { readOptions } from "../option-values.ts";
import { hostFor, rememberHost } from "../overlay2/host.ts";
import { mountOptions } from "../overlay2/options.ts";
import { probeOverlay2 } from "../overlay2/probes.ts";
import { inUserNamespace } from "../overlay2/trial.ts";
import { nearestDirectory, withTrialDirectory } from "../trial-directory.ts";
import { AufsDriver, type AufsHost } from "./aufs.ts";
import { aufsFolders } from "./layout.ts";
import { aufsMountCalls } from "./mount-options.ts";

export const aufsFactory: DriverFactory = {
  name: "aufs",
  layersFolder: "layers",
  probe: async (home) => {
    const kernel = probeKernel(home);
    if (kernel.ok) return [kernel];
    return [kernel, ...probeOverlay2(home).filter(({ name }) => !unused.includes(name))];
  },
  open: async (home, options) => {
    readOptions("aufs", options);
    const overlay = probeKernel(home).ok ? undefined : hostFor("aufs", home);
    for (const [name, mode] of aufsFolders) makeDirectory(`${home}${name}`, mode);
    if (overlay === undefined) return new AufsDriver(home, hostWithAufs(home));
    rememberHost(home, overlay);
    const mount = mountOptions({ redirectDir: false, metacopy: false }, overlay.abilities);
    const { backingFileSystem } = overlay;
    return new AufsDriver(home, { backingFileSystem, mounter: { kind: "overlay", options: mount } });
  },
};

/** What overlay2 asks for and this driver makes no use of. */
const unused: readonly string[] = ["redirect_dir", "metacopy"];
/** File systems that aufs takes no branch from. */
const refused: readonly string[] = ["aufs", "btrfs", "ecryptfs"];

/** Can the kernel's aufs mount branches under `home`? */
function probeKernel(home: ByteString): ProbeResult {
  const no = (reason: string): ProbeResult => ({
    name: "kernel_aufs",
    ok: false,
    reason: `${reason}: branches are mounted by overlayfs`,
    remedy: "nothing is lost; Linux itself has no aufs, some distributions add it",
    required: false,
  });
  if (!/^nodev\taufs$/m.test(readFileSync("/proc/filesystems", "latin1"))) return no("the kernel has no aufs");
  if (inUserNamespace()) return no("aufs cannot be mounted in a user namespace");
  const backing = fileSystemName(sys.statfs(nearestDirectory(home)).type);
  if (refused.includes(backing)) return no(`aufs takes no branch from ${backing}`);
  return { name: "kernel_aufs", ok: true, reason: "the kernel has aufs", required: false };
}

function hostWithAufs(home: ByteString): AufsHost {
  const backingFileSystem = fileSystemName(sys.statfs(home).type);
  return { backingFileSystem, mounter: { kind: "aufs", dirperm1: knowsDirperm1(home) } };
}

/** True when a trial mount takes the option. */
function knowsDirperm1(home: ByteString): boolean {
  return withTrialDirectory(home, (directory) => {
    const names = ["upper", "lower", "target"].map((name) => `${directory}/${name}`);
    for (const path of names) sys.mkdirat(AT_FDCWD, path, 0o700);
    const [upper, lower = "", target = ""] = names;
    const [call] = aufsMountCalls({ writable: upper, readOnly: [lower], dirperm1: true });
    const r = raw.mount("none", target, "aufs", call?.flags ?? 0, call?.data ?? "");
    if (r >= 0) umount(target);
    return r >= 0;
  });
}
