/**
 * Advisory locks between processes and threads: flock(2) on a file made for the purpose. The lock belongs to the open file,
 * so the kernel drops it when its holder dies, and two holders in one process exclude each other as two processes do.
 *
 * Waiting blocks the thread. Locks waited for on the main thread are held for milliseconds by their contract.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, LOCK_EX, LOCK_NB, LOCK_SH, O_CREAT, O_NOFOLLOW, O_RDWR } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

export type LockMode = "shared" | "exclusive";

const ENOENT = 2;

/**
 * Opens a file that is there to be locked, making it (mode 0600) when it is not there. Others may remove it at any time.
 *
 * On FUSE a name that was looked up while another process removed it can outlive its file in the kernel (seen with zfs-fuse):
 * opening it, even to make it, answers ENOENT until the kernel forgets the name, which removing the name makes it do.
 */
export function openLockFile(path: ByteString): sys.OwnedFd {
  for (let i = 0; ; i++) {
    const fd = raw.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    if (fd >= 0) return new sys.OwnedFd(fd);
    if (fd !== -ENOENT || i > 40) throw new SyscallError("openat", -fd, textOfBytes(path));
    if (i > 20) raw.unlinkat(AT_FDCWD, path);
  }
}

/** Takes the lock at `path`, making the file (mode 0600) when it is not there; waits until it is free. */
export function lockFile(path: ByteString, mode: LockMode): Disposable {
  const file = openLockFile(path);
  sys.flock(file.fd, mode === "shared" ? LOCK_SH : LOCK_EX);
  return file;
}

/** Like {@link lockFile}, but answers undefined instead of waiting. */
export function tryLockFile(path: ByteString, mode: LockMode): Disposable | undefined {
  const file = openLockFile(path);
  if (sys.flock(file.fd, (mode === "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB)) return file;
  file[Symbol.dispose]();
  return undefined;
}
