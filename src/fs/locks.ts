/**
 * Advisory locks between processes and threads: flock(2) on a file made for the purpose. The lock belongs to the open file,
 * so the kernel drops it when its holder dies, and two holders in one process exclude each other as two processes do.
 *
 * Waiting blocks the thread. Locks waited for on the main thread are held for milliseconds by their contract.
 */
import type { ByteString } from "../lib/bytes.ts";
import { LOCK_EX, LOCK_NB, LOCK_SH, O_CREAT, O_NOFOLLOW, O_RDWR } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";

export type LockMode = "shared" | "exclusive";

/** Takes the lock at `path`, making the file (mode 0600) when it is not there; waits until it is free. */
export function lockFile(path: ByteString, mode: LockMode): Disposable {
  const file = sys.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  sys.flock(file.fd, mode === "shared" ? LOCK_SH : LOCK_EX);
  return file;
}

/** Like {@link lockFile}, but answers undefined instead of waiting. */
export function tryLockFile(path: ByteString, mode: LockMode): Disposable | undefined {
  const file = sys.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  if (sys.flock(file.fd, (mode === "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB)) return file;
  file[Symbol.dispose]();
  return undefined;
}
