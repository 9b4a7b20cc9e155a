/** Mount options as text (`nodev,noatime,data=ordered`), divided as mount(2) takes them: flags, and what the file system reads. */
import {
  MS_NOATIME,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_RELATIME,
  MS_STRICTATIME,
} from "../../sys/constants.ts";

const MS_SYNCHRONOUS = 16;
const MS_DIRSYNC = 128;
const MS_NODIRATIME = 2048;
const MS_LAZYTIME = 1 << 25;

/** Option by option: the flags it sets and those it clears. */
const flagsOf: ReadonlyMap<string, { readonly set?: number; readonly clear?: number }> = new Map([
  ["defaults", {}],
  ["rw", { clear: MS_RDONLY }],
  ["ro", { set: MS_RDONLY }],
  ["suid", { clear: MS_NOSUID }],
  ["nosuid", { set: MS_NOSUID }],
  ["dev", { clear: MS_NODEV }],
  ["nodev", { set: MS_NODEV }],
  ["exec", { clear: MS_NOEXEC }],
  ["noexec", { set: MS_NOEXEC }],
  ["async", { clear: MS_SYNCHRONOUS }],
  ["sync", { set: MS_SYNCHRONOUS }],
  ["dirsync", { set: MS_DIRSYNC }],
  ["atime", { clear: MS_NOATIME }],
  ["noatime", { set: MS_NOATIME }],
  ["diratime", { clear: MS_NODIRATIME }],
  ["nodiratime", { set: MS_NODIRATIME }],
  ["relatime", { set: MS_RELATIME }],
  ["norelatime", { clear: MS_RELATIME }],
  ["strictatime", { set: MS_STRICTATIME }],
  ["nostrictatime", { clear: MS_STRICTATIME }],
  ["lazytime", { set: MS_LAZYTIME }],
  ["nolazytime", { clear: MS_LAZYTIME }],
]);

export interface MountOptions {
  readonly flags: number;
  /** Options of the file system's own, joined by commas. */
  readonly data: string;
}

export function parseMountOptions(text: string): MountOptions {
  let flags = 0;
  const data: string[] = [];
  for (const option of text.split(",").map((word) => word.trim())) {
    if (option === "") continue;
    const known = flagsOf.get(option);
    if (known === undefined) data.push(option);
    else flags = (flags & ~(known.clear ?? 0)) | (known.set ?? 0);
  }
  return { flags, data: data.join(",") };
}
