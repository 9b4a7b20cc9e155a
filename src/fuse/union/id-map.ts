/**
 * Which owners are shown for those on disk. Ranges map IDs of the layers to others and back; an ID in no range is shown as the
 * overflow ID, and cannot be given to an object. Squashing shows one ID for all; what is stored is as without it.
 *
 * The options are those of fuse-overlayfs: `uidmapping=DISK:SHOWN:LENGTH[:…]`, `gidmapping`, `squash_to_root`,
 * `squash_to_uid`, `squash_to_gid`.
 */
import { SyscallError } from "../../errors/syscall-error.ts";

/** `length` IDs from `disk` on are shown as those from `shown` on. */
export interface IdRange {
  readonly disk: number;
  readonly shown: number;
  readonly length: number;
}

/** For users or for groups. */
export interface IdMap {
  /** None: all as they are. */
  readonly ranges: readonly IdRange[];
  /** All are shown as this one. */
  readonly squash?: number | undefined;
}

const EINVAL = 22;
/** What stands for IDs that have no place (/proc/sys/kernel/overflowuid, as set by default). */
const OVERFLOW = 65534;

export function shownId({ ranges, squash }: IdMap, disk: number): number {
  if (squash !== undefined) return squash;
  if (ranges.length === 0) return disk;
  const range = ranges.find((each) => disk >= each.disk && disk < each.disk + each.length);
  return range === undefined ? OVERFLOW : range.shown + disk - range.disk;
}

/** -1 stays, which means none. Errors: SyscallError EINVAL, as chown(2) has it, for an ID that the ranges do not show. */
export function diskId({ ranges }: IdMap, shown: number): number {
  if (ranges.length === 0 || shown === -1) return shown;
  const range = ranges.find((each) => shown >= each.shown && shown < each.shown + each.length);
  if (range === undefined) throw new SyscallError("chown", EINVAL);
  return range.disk + shown - range.shown;
}

/** Reads `0:1000:1:1:100000:65536`; undefined when it is none. */
export function parseIdRanges(text: string): readonly IdRange[] | undefined {
  const numbers = text.split(":").map((part) => (/^\d{1,10}$/.test(part) ? Number(part) : Number.NaN));
  if (numbers.length % 3 !== 0 || numbers.some((each) => Number.isNaN(each) || each > 0xffffffff)) return undefined;
  const ranges: IdRange[] = [];
  for (let i = 0; i < numbers.length; i += 3) {
    const [disk = 0, shown = 0, length = 0] = numbers.slice(i, i + 3);
    ranges.push({ disk, shown, length });
  }
  return ranges;
}
