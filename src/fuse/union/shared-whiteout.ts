/** The whiteout of which all others are hard links. It lies in the work directory. */
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";

export const sharedWhiteout = "#whiteout";

/** Tries it in the work directory, which then holds the first whiteout. */
export function canMakeWhiteouts(workFd: number): boolean {
  return raw.mknodat(workFd, sharedWhiteout, C.S_IFCHR, 0, 0) >= 0;
}
