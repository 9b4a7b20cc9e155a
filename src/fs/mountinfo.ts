/**
 * /proc/[pid]/mountinfo (proc_pid_mountinfo(5), fs/proc_namespace.c): the mounts of a mount namespace, a line each.
 *
 *     36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *     id parent dev root point options [optional fields] - type source superOptions
 *
 * Paths are bytes; space, tab, newline, backslash (and in option strings also `#` and others) are escaped as three octal digits.
 */
import { readFileSync } from "node:fs";
import type { ByteString } from "../lib/bytes.ts";

export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** The path within the file system that is mounted: other than `/` for bind mounts of a part. */
  readonly root: ByteString;
  readonly mountPoint: ByteString;
  /** Options of this mount: `rw`, `noatime` ... */
  readonly options: readonly string[];
  /** Optional fields as they stand: `shared:7`, `master:2`, `propagate_from:1`, `unbindable`. */
  readonly optionalFields: readonly string[];
  readonly type: string;
  readonly source: ByteString;
  /** Options of the file system, unsplit: an overlay's lowerdir may hold commas. */
  readonly superOptions: ByteString;
}

function unescapeOctal(field: string): ByteString {
  if (!field.includes("\\")) return field;
  return field.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Parses the text of a mountinfo file, given as a byte string. Lines that do not have the form are left out. */
export function parseMountInfo(text: ByteString): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    const dash = fields.indexOf("-", 6);
    if (dash < 0 || fields.length < dash + 3) continue;
    const at = (i: number): string => fields[i] ?? "";
    const [devMajor, devMinor] = at(2).split(":").map(Number);
    mounts.push({
      id: Number(at(0)),
      parentId: Number(at(1)),
      devMajor: devMajor ?? 0,
      devMinor: devMinor ?? 0,
      root: unescapeOctal(at(3)),
      mountPoint: unescapeOctal(at(4)),
      options: at(5).split(","),
      optionalFields: fields.slice(6, dash),
      type: unescapeOctal(at(dash + 1)),
      source: unescapeOctal(at(dash + 2)),
      superOptions: unescapeOctal(at(dash + 3)),
    });
  }
  return mounts;
}

/** The mounts the calling thread sees, in mount order: of two on one point the later one is on top. */
export function readMountInfo(): MountInfo[] {
  return parseMountInfo(readFileSync("/proc/thread-self/mountinfo", "latin1"));
}
