/**
 * Who uses a layer's mount: counted by the kernel, over threads and processes, so that a process that dies is not counted.
 *
 * Each layer in use has a file in the folder `mounts` of the driver's state. Its bytes are never looked at, only locked, with
 * locks that belong to open files (F_OFD_SETLK):
 *
 *     byte 0                        the gate: held exclusively while a use begins or ends
 *     byte N, N ≥ 1                 held shared by each use in the mount namespace whose inode number is N
 *
 * The last use of a namespace is the one that gets byte N exclusively; it unmounts. A file that holds the word `kept` marks a
 * mount that is to outlast the process that made it (`lamella mount`). Files go with the last use.
 *
 * All is synchronous: the gate is never held across an await, so no thread can wait for itself.
 */
import { readlinkSync } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { openLockFile } from "../fs/locks.ts";
import type { ByteString } from "../lib/bytes.ts";
import {
  AT_FDCWD,
  F_OFD_SETLK,
  F_OFD_SETLKW,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  O_NOFOLLOW,
  O_RDWR,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const EINTR = 4;
const EAGAIN = 11;
const EACCES = 13;
const KEPT = "kept\n";

/** The state of a layer's mount when a use begins. */
export interface UsesBefore {
  /** There are uses in this mount namespace. */
  readonly here: boolean;
  /** There are uses in other mount namespaces. */
  readonly elsewhere: boolean;
  /** The mount was made to outlast its maker. */
  readonly kept: boolean;
}

/** One use of a layer's mount. It ends with {@link LayerUses.end}, or with the process. */
export interface LayerUse {
  readonly file: sys.OwnedFd;
  readonly path: ByteString;
  readonly namespace: number;
}

/** The inode number of the calling thread's mount namespace. */
export function mountNamespace(): number {
  return Number(/\d+/.exec(readlinkSync("/proc/thread-self/ns/mnt"))?.[0] ?? "1");
}

/** Takes or drops a lock on `length` bytes from `start` (0: to the end); false when another has it. */
function lock(fd: number, type: number, start: number, length: number, wait = false): boolean {
  for (;;) {
    const r = raw.ofdLock(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, type, start, length);
    if (r >= 0) return true;
    if (r === -EINTR) continue;
    if (r === -EAGAIN || r === -EACCES) return false;
    throw new SyscallError("fcntl F_OFD_SETLK", -r);
  }
}

/** True when no other open file has a lock on the range. Gives up what this one had there. */
function free(fd: number, start: number, length: number): boolean {
  if (!lock(fd, F_WRLCK, start, length)) return false;
  lock(fd, F_UNLCK, start, length);
  return true;
}

export class LayerUses {
  readonly #directory: ByteString;

  /** `directory` exists and holds nothing else. */
  constructor(directory: ByteString) {
    this.#directory = directory;
  }

  /** Begins a use. `prepare` runs while none other begins or ends: it mounts what is not mounted. */
  begin(id: string, prepare: (before: UsesBefore) => void, options: { readonly keep?: boolean } = {}): LayerUse {
    const path = `${this.#directory}/${id}`;
    const file = this.#openGate(path);
    try {
      const { fd } = file;
      const namespace = mountNamespace();
      const kept = isKept(fd);
      const here = !free(fd, namespace, 1);
      const below = namespace > 1 && !free(fd, 1, namespace - 1);
      prepare({ here, elsewhere: below || !free(fd, namespace + 1, 0), kept });
      lock(fd, F_RDLCK, namespace, 1);
      if (options.keep && !kept) sys.writeAll(fd, Buffer.from(KEPT));
      lock(fd, F_UNLCK, 0, 1);
      return { file, path, namespace };
    } catch (error) {
      if (free(file.fd, 1, 0) && !isKept(file.fd)) raw.unlinkat(AT_FDCWD, path);
      file[Symbol.dispose]();
      throw error;
    }
  }

  /** Ends a use. `finish` runs when it was the last in this mount namespace of a mount that is not kept: it unmounts. */
  end(use: LayerUse, finish: () => void): void {
    using file = use.file;
    lock(file.fd, F_WRLCK, 0, 1, true);
    const kept = isKept(file.fd);
    const last = lock(file.fd, F_WRLCK, use.namespace, 1);
    lock(file.fd, F_UNLCK, use.namespace, 1);
    if (last && !kept) finish();
    if (!kept && free(file.fd, 1, 0)) raw.unlinkat(AT_FDCWD, use.path);
  }

  /** Runs `body` while nothing uses the layer and nothing can begin to. Errors: failed_precondition when it is in use. */
  unused<T>(id: string, body: () => T): T {
    const path = `${this.#directory}/${id}`;
    using file = this.#openGate(path);
    if (!free(file.fd, 1, 0))
      throw new LamellaError("failed_precondition", "LAYER_IN_USE", `layer ${id} is mounted and in use`, {
        hint: "end what uses it (a container, a build, `lamella mount`) and try again",
      });
    const result = body();
    raw.unlinkat(AT_FDCWD, path);
    return result;
  }

  /** Runs `body` while no use begins or ends, whoever uses the layer; afterwards its mount is kept no longer. */
  forced<T>(id: string, body: () => T): T {
    const path = `${this.#directory}/${id}`;
    using file = this.#openGate(path);
    const result = body();
    sys.ftruncate(file.fd, 0);
    if (free(file.fd, 1, 0)) raw.unlinkat(AT_FDCWD, path);
    return result;
  }

  /** True when somebody uses the layer, or its mount is kept. Cheap when nobody does. */
  inUse(id: string): boolean {
    const fd = raw.openat(AT_FDCWD, `${this.#directory}/${id}`, O_RDWR | O_NOFOLLOW);
    if (fd < 0) return false;
    using file = new sys.OwnedFd(fd);
    return isKept(file.fd) || !free(file.fd, 1, 0);
  }

  /** True when a living process uses the layer. A kept mount may have ended with its mount namespace. */
  isHeld(id: string): boolean {
    const fd = raw.openat(AT_FDCWD, `${this.#directory}/${id}`, O_RDWR | O_NOFOLLOW);
    if (fd < 0) return false;
    using file = new sys.OwnedFd(fd);
    return !free(file.fd, 1, 0);
  }

  #openGate(path: ByteString): sys.OwnedFd {
    for (;;) {
      const file = openLockFile(path);
      lock(file.fd, F_WRLCK, 0, 1, true);
      const there = sys.statIfExists(AT_FDCWD, path);
      if (there !== undefined && sys.sameInode(there, sys.fstat(file.fd))) return file;
      file[Symbol.dispose]();
    }
  }
}

function isKept(fd: number): boolean {
  return sys.fstat(fd).size > 0;
}
