/** Flags of a mount by the names that mount(8) has for them. */
import * as C from "../sys/constants.ts";

/** `relatime` is the kernel's own choice. */
export const flagBits = {
  nosuid: C.MS_NOSUID,
  nodev: C.MS_NODEV,
  noexec: C.MS_NOEXEC,
  noatime: C.MS_NOATIME,
  nodiratime: C.MS_NODIRATIME,
  strictatime: C.MS_STRICTATIME,
} as const;

export type MountFlag = keyof typeof flagBits;

export function isMountFlag(word: string): word is MountFlag {
  return Object.hasOwn(flagBits, word);
}
