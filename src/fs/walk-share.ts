/**
 * Walking one tree (or two of the same shape) with several threads, directory by directory.
 *
 * Each thread goes depth first through directories of its own, relative to descriptors, with no lock and no allocation
 * shared with the others. Only when another thread has run out of work does it give some away: directories that wait
 * nearest to the root, by path, through a stack in shared memory. The order in which directories are visited is therefore
 * not defined; whoever needs an order sorts what was found.
 *
 * ```
 * Int32Array  [lock] [sequence] [busy] [waiting] [top] [over]        then the stack's bytes:
 * bytes       path, length (u32) | path, length (u32) | ...  <- top
 * ```
 * A thread joins, takes until there is no more, and is done when nobody is busy and the stack is empty. A thread that
 * starts late joins late; one that starts after the end finds it over. No thread ever waits for another to start.
 */

import { SyscallError } from "../errors/syscall-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import { textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";

const LOCK = 0;
const SEQUENCE = 1;
const BUSY = 2;
const WAITING = 3;
const TOP = 4;
const OVER = 5;
const HEADER_BYTES = 32;
const STACK_BYTES = 256 * 1024;
/** The kernel takes paths of less than PATH_MAX. */
const LONGEST_PATH = 4000;

/** The memory behind a {@link WorkShare}; goes to other threads as it is. */
export type WorkShareMemory = SharedArrayBuffer;

/** A stack of directories still to be walked, shared by threads. */
export class WorkShare {
  readonly memory: WorkShareMemory;
  readonly #header: Int32Array;
  readonly #bytes: Buffer;
  #joined = false;

  constructor(memory: WorkShareMemory) {
    this.memory = memory;
    this.#header = new Int32Array(memory, 0, HEADER_BYTES / 4);
    this.#bytes = Buffer.from(memory, HEADER_BYTES);
  }

  /** A share with one piece of work in it. */
  static start(first: ByteString): WorkShare {
    const share = new WorkShare(new SharedArrayBuffer(Math.max(STACK_BYTES, first.length + 4) + HEADER_BYTES));
    share.give(first);
    return share;
  }

  /** True while another thread waits for work: cheap enough to ask once a directory. */
  get wanted(): boolean {
    return Atomics.load(this.#header, WAITING) > 0;
  }

  /** True when the walk has come to its end, or was stopped. */
  get over(): boolean {
    return Atomics.load(this.#header, OVER) !== 0;
  }

  /** Ends the walk for all threads at their next directory. */
  stop(): void {
    Atomics.store(this.#header, OVER, 1);
    this.#wake();
  }

  /** Adds work; false when it has to stay with the caller, because there is no room. */
  give(work: ByteString): boolean {
    this.#lock();
    const top = this.#header[TOP] ?? 0;
    const end = top + work.length;
    const fits = end + 4 <= this.#bytes.length;
    if (fits) {
      this.#bytes.write(work, top, "latin1");
      this.#bytes.writeUInt32LE(work.length, end);
      this.#header[TOP] = end + 4;
    }
    this.#unlock();
    if (fits) this.#wake();
    return fits;
  }

  /** The next work, waiting for some if need be; undefined when there will be no more. */
  take(): ByteString | undefined {
    const header = this.#header;
    let idle = !this.#joined;
    this.#lock();
    for (;;) {
      const top = header[TOP] ?? 0;
      if (header[OVER] !== 0) break;
      if (top > 0) {
        const end = top - 4;
        const start = end - this.#bytes.readUInt32LE(end);
        const work = this.#bytes.toString("latin1", start, end);
        header[TOP] = start;
        if (idle) {
          Atomics.add(header, BUSY, 1);
          if (this.#joined) Atomics.sub(header, WAITING, 1);
          this.#joined = true;
        }
        this.#unlock();
        return work;
      }
      if (!this.#joined || !idle) {
        if (this.#joined) Atomics.sub(header, BUSY, 1);
        Atomics.add(header, WAITING, 1);
        this.#joined = true;
        idle = true;
        if (header[BUSY] === 0) {
          header[OVER] = 1;
          break;
        }
      }
      const seen = Atomics.load(header, SEQUENCE);
      this.#unlock();
      Atomics.wait(header, SEQUENCE, seen);
      this.#lock();
    }
    this.#unlock();
    this.#wake();
    return undefined;
  }

  #wake(): void {
    Atomics.add(this.#header, SEQUENCE, 1);
    Atomics.notify(this.#header, SEQUENCE);
  }

  #lock(): void {
    while (Atomics.compareExchange(this.#header, LOCK, 0, 1) !== 0) Atomics.wait(this.#header, LOCK, 1, 1);
  }

  #unlock(): void {
    Atomics.store(this.#header, LOCK, 0);
    Atomics.notify(this.#header, LOCK, 1);
  }
}

/** One directory under way. Descriptors belong to the walk and are open until all below the directory is done. */
export interface SharedDirectory {
  /** Relative to the root; the root itself is "". */
  readonly path: ByteString;
  readonly marker: Marker;
  readonly fd: number;
  /**
   * The directory of the same path in the second tree, -1 where there is none, or none is open. A visitor may open it
   * then, and must before it names a subdirectory that is walked in both; the walk closes it.
   */
  otherFd: number;
  /** Filled by the visitor: a {@link Marker}, followed by the name. */
  readonly subdirectories: ByteString[];
}

/** Leads the name of a subdirectory that is walked in the first tree alone. */
export const ONE = "+";
/** Leads the name of a subdirectory that is walked in both trees at once. */
export const BOTH = "=";
/** As {@link BOTH}; the visitor knows something of the two. */
export const KNOWN = "~";
/** As {@link ONE}; the visitor knows that the second tree has the same names there. */
export const CALM = ".";

/** How a directory is walked, and what the visitor wants to remember of it. */
export type Marker = typeof ONE | typeof BOTH | typeof KNOWN | typeof CALM;

function markerOf(work: ByteString): Marker {
  return work[0] as Marker;
}

const OPEN_DIRECTORY = C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW;

/** A descriptor of the directory at a path beneath another, however long the path, or -errno. */
function openSubdirectory(dirfd: number, path: ByteString): number {
  if (path === "") return raw.openat(dirfd, ".", OPEN_DIRECTORY);
  const end = path.length < LONGEST_PATH ? path.length : path.lastIndexOf("/", LONGEST_PATH);
  const fd =
    raw.haveOpenat2 && path.includes("/")
      ? raw.openat2(dirfd, path.slice(0, end), OPEN_DIRECTORY, 0, C.RESOLVE_BENEATH | C.RESOLVE_NO_SYMLINKS)
      : raw.openat(dirfd, path.slice(0, end), OPEN_DIRECTORY);
  if (fd < 0 || end === path.length) return fd;
  const below = openSubdirectory(fd, path.slice(end + 1));
  raw.close(fd);
  return below;
}

/** Opens the directory at a path beneath another; "" is that other itself. The caller closes it. Errors: SyscallError. */
export function openBeneath(dirfd: number, path: ByteString): number {
  const fd = openSubdirectory(dirfd, path);
  if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(path));
  return fd;
}

/** Opens a directory in one or both trees; undefined when it has vanished or is none any more. */
function openShared(
  work: ByteString,
  base: { readonly fd: number; readonly otherFd: number },
  path: ByteString,
): SharedDirectory | undefined {
  const name = work.slice(1);
  const marker = markerOf(work);
  const opened: number[] = [];
  for (const dirfd of marker === BOTH || marker === KNOWN ? [base.fd, base.otherFd] : [base.fd]) {
    const fd = openSubdirectory(dirfd, name);
    if (fd >= 0) {
      opened.push(fd);
      continue;
    }
    for (const other of opened) raw.close(other);
    const code = new SyscallError("openat", -fd, textOfBytes(path));
    if (code.code === "ENOENT" || code.code === "ENOTDIR") return undefined;
    throw code;
  }
  return { path, marker, fd: opened[0] ?? -1, otherFd: opened[1] ?? -1, subdirectories: [] };
}

/** Gives away about half of what waits nearest to the root. */
function giveSome(share: WorkShare, stack: readonly SharedDirectory[]): void {
  for (let i = 0; i < stack.length; i++) {
    const directory = stack[i];
    if (directory === undefined || directory.subdirectories.length === 0) continue;
    // The last one is given only when there is other work left for this thread.
    const more = stack.slice(i + 1).some((below) => below.subdirectories.length > 0);
    let count = Math.floor((directory.subdirectories.length + (more ? 1 : 0)) / 2);
    for (; count > 0; count--) {
      const work = directory.subdirectories.shift();
      if (work === undefined) return;
      const path = directory.path === "" ? work.slice(1) : `${directory.path}/${work.slice(1)}`;
      if (share.give(markerOf(work) + path)) continue;
      directory.subdirectories.unshift(work);
      return;
    }
    return;
  }
}

/**
 * One thread's part of a walk: visits directories until there are none left anywhere. `visit` looks at what a directory
 * holds and pushes the subdirectories to be walked. When it throws, the walk ends for all threads.
 */
export function walkShared(
  share: WorkShare,
  roots: { readonly fd: number; readonly otherFd: number },
  visit: (directory: SharedDirectory) => void,
): void {
  const stack: SharedDirectory[] = [];
  const close = (): void => {
    const directory = stack.pop();
    if (directory === undefined) return;
    raw.close(directory.fd);
    if (directory.otherFd >= 0) raw.close(directory.otherFd);
  };
  const enter = (directory: SharedDirectory | undefined): void => {
    if (directory === undefined) return;
    stack.push(directory);
    visit(directory);
    if (share.wanted) giveSome(share, stack);
  };
  try {
    for (let work = share.take(); work !== undefined; work = share.take()) {
      enter(openShared(work, roots, work.slice(1)));
      for (let last = stack.at(-1); last !== undefined && !share.over; last = stack.at(-1)) {
        const next = last.subdirectories.pop();
        if (next === undefined) close();
        else enter(openShared(next, last, last.path === "" ? next.slice(1) : `${last.path}/${next.slice(1)}`));
      }
    }
  } catch (error) {
    share.stop();
    throw error;
  } finally {
    while (stack.length > 0) close();
  }
}
