/**
 * Locks between processes that are waited for without blocking the thread: a file in <root>/locks/<driver>/, locked with
 * flock, deleted by its holder when he lets go. Two stores in one process exclude each other too.
 *
 * A chain's lock (`c-<hex>`) is held from before its layer is unpacked until it is published or discarded: whoever else
 * wants the chain waits, and then finds it. Locks of one image are taken from the base upwards, one image after another,
 * so that waiting never goes in a circle.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { throwIfAborted } from "../errors/lamella-error.ts";
import { openLockFile } from "../fs/locks.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { AT_FDCWD, LOCK_EX, LOCK_NB } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const firstPauseMs = 2;
const longestPauseMs = 50;

/** The lock, or undefined when somebody has it. Disposing unlocks and deletes the file. */
export function tryLock(path: string): Disposable | undefined {
  const bytes = bytesOfText(path);
  for (;;) {
    const file = openLockFile(bytes);
    if (!sys.flock(file.fd, LOCK_EX | LOCK_NB)) {
      file[Symbol.dispose]();
      return undefined;
    }
    // The holder before may have deleted the file between our open and our lock; then the lock is of no file at all.
    if (sys.fstat(file.fd).nlink > 0) return new HeldLock(bytes, file);
    file[Symbol.dispose]();
  }
}

/** Waits until `attempt` gives something. */
export async function waitFor<T>(attempt: () => T | undefined, signal: AbortSignal | undefined): Promise<T> {
  for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, longestPauseMs)) {
    throwIfAborted(signal);
    const result = attempt();
    if (result !== undefined) return result;
    await sleep(pause);
  }
}

class HeldLock implements Disposable {
  readonly #path: string;
  readonly #file: sys.OwnedFd;
  #isHeld = true;

  constructor(path: string, file: sys.OwnedFd) {
    this.#path = path;
    this.#file = file;
  }

  [Symbol.dispose](): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    raw.unlinkat(AT_FDCWD, this.#path);
    this.#file[Symbol.dispose]();
  }
}
