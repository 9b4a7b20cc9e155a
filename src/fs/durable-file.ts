/**
 * Small files that must survive a power cut whole: temporary file in the same directory → fsync → rename → fsync of the
 * directory. A reader sees the old content or the new, never a part; a crash leaves at most a file named `.NAME.HEX.tmp`.
 */
import { randomBytes } from "node:crypto";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const EEXIST = 17;

export interface WriteOptions {
  /** Permission bits of the new file, subject to the umask; 0644 when not given. */
  readonly mode?: number;
  /** False leaves out both fsyncs: the replacement stays atomic, but a power cut may bring the old content back. */
  readonly durable?: boolean;
}

/** The directory part of an absolute path. */
export function parentPath(path: ByteString): ByteString {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

/** Makes a directory (mode subject to the umask) unless something of that name is there. */
export function makeDirectory(path: ByteString, mode: number): void {
  const r = raw.mkdirat(AT_FDCWD, path, mode);
  if (r < 0 && r !== -EEXIST) throw new SyscallError("mkdirat", -r, textOfBytes(path));
}

/** Creates or replaces the file at `path`. Errors: those of the system calls, with nothing left behind. */
export function writeDurably(path: ByteString, content: Uint8Array | string, options: WriteOptions = {}): void {
  const bytes = typeof content === "string" ? Buffer.from(content, "latin1") : content;
  const directory = parentPath(path);
  const temporary = `${directory}/.${path.slice(path.lastIndexOf("/") + 1)}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    using file = sys.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, options.mode ?? 0o644);
    sys.writeAll(file.fd, bytes);
    if (options.durable !== false) sys.fsync(file.fd);
    sys.renameat2(AT_FDCWD, temporary, AT_FDCWD, path);
  } catch (error) {
    raw.unlinkat(AT_FDCWD, temporary);
    throw error;
  }
  if (options.durable !== false) syncDirectory(directory);
}

/** Makes the names of a directory durable. */
export function syncDirectory(path: ByteString): void {
  using directory = sys.open(path, O_RDONLY | O_DIRECTORY);
  sys.fsync(directory.fd);
}
