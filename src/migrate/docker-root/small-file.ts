/** Docker's small files: a name, an ID, a number, a document. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import type { RootDir } from "../../fs/root-dir.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, S_IFMT, S_IFREG } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";

const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
const ENOENT = 2;
const ENOTDIR = 20;
/** Docker's lists of images and configs of containers are the longest. */
const maxBytes = 64 * 1024 * 1024;

/** The content of a file at an absolute path as bytes; undefined when there is none. */
export function readSmall(path: ByteString): ByteString | undefined {
  const fd = raw.openat(AT_FDCWD, path, flags);
  if (fd === -ENOENT || fd === -ENOTDIR) return undefined;
  if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(path));
  using file = new sys.OwnedFd(fd);
  return readWhole(file.fd, path).toString("latin1");
}

/** The content of a file beneath a root, reached through no symbolic link; undefined when there is none. */
export function readBeneath(root: RootDir, path: ByteString): Buffer | undefined {
  try {
    using file = root.open(path, flags, 0, { escape: "refuse", symlinks: "refuse" });
    return readWhole(file.fd, path);
  } catch (error) {
    if (error instanceof SyscallError && (error.errno === ENOENT || error.errno === ENOTDIR)) return undefined;
    throw error;
  }
}

/** The names in a directory beneath a root, sorted; none when it is not there. */
export function namesBeneath(root: RootDir, path: ByteString): ByteString[] {
  try {
    const entries = root.readdir(path, { escape: "refuse", symlinks: "refuse" });
    return entries.map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof SyscallError && (error.errno === ENOENT || error.errno === ENOTDIR)) return [];
    throw error;
  }
}

function readWhole(fd: number, path: ByteString): Buffer {
  const stat = sys.fstat(fd);
  if ((stat.mode & S_IFMT) !== S_IFREG || stat.size > maxBytes)
    throw new LamellaError("data_loss", "DOCKER_FILE", `${textOfBytes(path)} is no file that Docker wrote`);
  const bytes = Buffer.allocUnsafe(stat.size);
  let length = 0;
  while (length < bytes.length) {
    const n = sys.pread64(fd, bytes.subarray(length), bytes.length - length, length);
    if (n === 0) break;
    length += n;
  }
  return bytes.subarray(0, length);
}
