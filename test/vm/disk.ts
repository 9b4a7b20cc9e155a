/** Disks of the machine: files that hold an ext4 file system, made from a directory without mounting anything. */
import { output } from "./apt.ts";

/** A sparse disk of this size with what the directory holds, owners and modes included. No journal: it is thrown away. */
export function makeDisk(directory: string, path: string, sizeMiB: number): void {
  output("mkfs.ext4", ["-q", "-d", directory, "-O", "^has_journal", "-E", "lazy_itable_init=1", path, `${sizeMiB}M`]);
}
