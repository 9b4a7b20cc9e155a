/** Mounts the kernel's overlayfs as a union file system of ours would be. */
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import * as sys from "../../src/sys/syscalls.ts";

/** What has been written with redirects is followed, whether or not new ones are made. */
export function mountKernelUnion(target: string, options: UnionOptions): void {
  const { lowers, upper, work, prefix, redirectDir, metacopy, index } = options;
  const features =
    prefix === "user.overlay."
      ? ["userxattr"]
      : [`redirect_dir=${redirectDir ? "on" : "follow"}`, `metacopy=${metacopy ? "on" : "off"}`];
  const writable = upper === undefined ? [] : [`upperdir=${upper}`, `workdir=${work}`];
  const all = [
    `index=${index && upper !== undefined ? "on" : "off"}`,
    ...features,
    `lowerdir=${lowers.join(":")}`,
    ...writable,
  ];
  sys.mount("overlay", target, "overlay", 0, all.join(","));
}
