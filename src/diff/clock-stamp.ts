/**
 * When change times tell what changed: a stamp of the clock, taken at a moment to compare them with.
 *
 * No program can set an object's change time: the kernel does, from the clock. So what changed after a moment has a change
 * time after that moment, provided that the clock went forward all the time since. A stamp holds what is needed to tell:
 * CLOCK_BOOTTIME goes forward and nobody can set it, so the distance between the two clocks changes when somebody sets
 * CLOCK_REALTIME, and only then (adjtime slews both).
 *
 * Writing through a map gives a new change time when a page is first written to, and not again until it was written back.
 * That is enough here: the objects compared with a stamp were new at its moment, so nobody had a map of them. (tmpfs may
 * give none at all; it is not asked: ./find-changes.ts.)
 *
 * A stamp of another boot is not trusted. A crash may keep what was written into a file and lose its new change time. And a
 * host without a battery-backed clock starts with a wrong time, runs containers, and learns the time from the network later;
 * it leaves no trace of that. What cannot be noticed: a clock set back and forward again within one boot.
 *
 * How close to the moment a change time may be and still count as before it:
 * - File systems cut times down to the steps they keep: seconds (ext3, ext4 with small inodes, some FUSE), else less.
 *   An ext4 inode without room for nanoseconds loses them when it leaves the cache, whatever its neighbours have; so
 *   whole seconds are taken for cut down, wherever they are found.
 * - The kernel's clock for files stands still between two ticks, up to 10 ms (HZ=100). Since Linux 6.13 it is finer for
 *   objects that were looked at in between, and never behind an earlier one.
 */
import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { clock_gettime, fstat, OwnedFd, type Stat, unlinkat } from "../sys/syscalls.ts";

/** A moment on one file system's clock. Plain data; drivers keep it as JSON beside the layer. */
export interface ClockStamp {
  /** The file system's time of the moment. */
  readonly sec: number;
  readonly nsec: number;
  /** The steps in which the file system keeps change times. */
  readonly granularityNs: number;
  /** The boot (and time namespace) the stamp was taken in. */
  readonly boot: string;
  /** CLOCK_REALTIME − CLOCK_BOOTTIME. */
  readonly offsetUs: number;
}

const SECOND_NS = 1_000_000_000;
/** A tick of the slowest kernel clock, and as much again for the clock being set back by less than is noticed. */
const TICK_NS = 20_000_000;
/** Whole seconds may be those of FAT, which counts in twos. */
const WHOLE_SECONDS_NS = 2 * SECOND_NS;
/** Two clocks cannot be read at once; a clock set back by less than this is covered by TICK_NS. */
const NOISE_US = 5000;

/** The steps in which a time that was read is kept, or coarser ones: the largest power of ten that divides it. */
function stepOf(nsec: number): number {
  if (nsec === 0) return WHOLE_SECONDS_NS;
  let step = 1;
  while (nsec % (step * 10) === 0) step *= 10;
  return step;
}

function currentBoot(): string {
  const id = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  try {
    return `${id} ${readlinkSync("/proc/thread-self/ns/time")}`;
  } catch {
    return id;
  }
}

/** The distance of the two clocks. The reading that took the least time is the most exact. */
function currentOffsetUs(): number {
  let best = { tookUs: Number.POSITIVE_INFINITY, offsetUs: 0 };
  for (let i = 0; i < 5; i++) {
    const [before, real, after] = [C.CLOCK_BOOTTIME, C.CLOCK_REALTIME, C.CLOCK_BOOTTIME].map((clock) => {
      const { sec, nsec } = clock_gettime(clock);
      return sec * 1e6 + nsec / 1000;
    }) as [number, number, number];
    if (after - before < best.tookUs)
      best = { tookUs: after - before, offsetUs: Math.round(real - (before + after) / 2) };
  }
  return best.offsetUs;
}

/** What the file system gives a new file as its change time. Leaves no file; the directory's own times may change. */
function timeOfNewFile(directory: ByteString): Stat {
  const unnamed = raw.openat(C.AT_FDCWD, directory, C.O_TMPFILE | C.O_WRONLY, 0o600);
  if (unnamed >= 0) {
    using file = new OwnedFd(unnamed);
    return fstat(file.fd);
  }
  const path = `${directory}/.clock-${randomBytes(6).toString("hex")}`;
  const named = raw.openat(C.AT_FDCWD, path, C.O_CREAT | C.O_EXCL | C.O_WRONLY | C.O_NOFOLLOW, 0o600);
  if (named < 0) throw new SyscallError("openat", -named, textOfBytes(path));
  using file = new OwnedFd(named);
  unlinkat(C.AT_FDCWD, path);
  return fstat(file.fd);
}

/**
 * Stamps the clock of the file system that holds `directory`, by making a file there that goes at once. Not a directory of
 * the tree itself: its times may change. For a file system that is not there yet, a directory on one of the same kind and
 * host will do.
 */
export function takeClockStamp(directory: ByteString): ClockStamp {
  const { ctimeSec, ctimeNsec } = timeOfNewFile(directory);
  return {
    sec: ctimeSec,
    nsec: ctimeNsec,
    granularityNs: stepOf(ctimeNsec),
    boot: currentBoot(),
    offsetUs: currentOffsetUs(),
  };
}

/** Reads a stamp that was kept as JSON; undefined when it is none. */
export function parseClockStamp(value: unknown): ClockStamp | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { sec, nsec, granularityNs, boot, offsetUs } = value as Record<keyof ClockStamp, unknown>;
  const numbers = [sec, nsec, granularityNs, offsetUs];
  if (typeof boot !== "string" || !numbers.every((number) => Number.isSafeInteger(number))) return undefined;
  return value as ClockStamp;
}

/** Why change times cannot be compared with the stamp; undefined when they can. */
export function clockDoubt(stamp: ClockStamp): string | undefined {
  if (stamp.boot !== currentBoot()) return "the host was started anew since";
  if (currentOffsetUs() < stamp.offsetUs - NOISE_US) return "the clock was set back since";
  return undefined;
}

/** Tells of change times whether they are safely before a stamp: the object has not changed since. */
export class SettledTimes {
  readonly #wholeSec: number;
  readonly #wholeNsec: number;
  readonly #sec: number;
  readonly #nsec: number;

  constructor({ sec, nsec, granularityNs }: ClockStamp) {
    const before = (ns: number): readonly [number, number] => {
      const at = nsec - ns;
      const borrowed = Math.floor(at / SECOND_NS);
      return [sec + borrowed, at - borrowed * SECOND_NS];
    };
    [this.#sec, this.#nsec] = before(TICK_NS + granularityNs);
    [this.#wholeSec, this.#wholeNsec] = before(TICK_NS + Math.max(granularityNs, WHOLE_SECONDS_NS));
  }

  /** True when an object with this change time has not changed since the stamp. */
  has({ ctimeSec, ctimeNsec }: Pick<Stat, "ctimeSec" | "ctimeNsec">): boolean {
    if (ctimeNsec === 0) return ctimeSec < this.#wholeSec || (ctimeSec === this.#wholeSec && this.#wholeNsec > 0);
    return ctimeSec < this.#sec || (ctimeSec === this.#sec && ctimeNsec < this.#nsec);
  }
}
