/** The drivers' small files: read whole, written once. */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const ENOENT = 2;
const ENOTDIR = 20;

/** The content as bytes; undefined when the file is not there. */
export function readSmallFile(path: ByteString): ByteString | undefined {
  const fd = raw.openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW);
  if (fd === -ENOENT || fd === -ENOTDIR) return undefined;
  if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(path));
  using file = new sys.OwnedFd(fd);
  const parts: Buffer[] = [];
  const buffer = Buffer.allocUnsafe(16384);
  for (let n = sys.read(file.fd, buffer); n > 0; n = sys.read(file.fd, buffer))
    parts.push(Buffer.from(buffer.subarray(0, n)));
  return Buffer.concat(parts).toString("latin1");
}

/** Writes a file that must not exist yet. */
export function writeNewFile(path: ByteString, content: ByteString, mode: number): void {
  using file = sys.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  if (content !== "") sys.writeAll(file.fd, Buffer.from(content, "latin1"));
}
