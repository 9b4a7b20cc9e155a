/** What this machine must have for the others to be made and booted. */
import { spawnSync } from "node:child_process";
import { debianMirrors, type Mirrors } from "./apt.ts";

/** The programs that are called, by the package that has them. */
const programs = {
  "qemu-system-x86_64": "qemu-system-x86",
  debootstrap: "debootstrap",
  "mkfs.ext4": "e2fsprogs",
  dpkg: "dpkg",
  depmod: "kmod",
  setpriv: "util-linux",
  unshare: "util-linux",
} as const;

/** The mirrors to take packages from, or the reason why no machine can be made here. */
export function examineHost(): Mirrors | string {
  if (process.getuid?.() !== 0) return "making a Debian image needs root";
  if (process.arch !== "x64") return `the kernels and the image are for x64, Node.js here is for ${process.arch}`;
  const lacking = Object.entries(programs).filter(([name]) => spawnSync("which", [name]).status !== 0);
  const [first] = lacking;
  if (first !== undefined)
    return `${first[0]} is not installed: apt-get install ${lacking.map((one) => one[1]).join(" ")}`;
  return debianMirrors() ?? "apt names no mirror of Debian";
}
