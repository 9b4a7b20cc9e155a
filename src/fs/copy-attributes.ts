/**
 * Copies what an object has besides its content: owner, then extended attributes (ACLs among them), then mode, then times.
 * In this order, as chown clears set-id bits and file capabilities, a read-only file takes no attribute from an unprivileged
 * owner, and everything changes times.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, S_IFLNK, S_IFMT } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const EPERM = 1;
const EOPNOTSUPP = 95;

export interface CopyAttributesOptions {
  /** Attributes of these names are left out. */
  readonly without?: (xattr: ByteString) => boolean;
}

/** From `source` to `target`, both paths of the host and never followed through a final symbolic link. */
export function copyAttributes(source: ByteString, target: ByteString, options: CopyAttributesOptions = {}): void {
  const stat = sys.statx(AT_FDCWD, source);
  sys.lchownat(AT_FDCWD, target, stat.uid, stat.gid);
  copyXattrs(AT_FDCWD, source, AT_FDCWD, target, options.without);
  if ((stat.mode & S_IFMT) !== S_IFLNK) sys.lchmodat(AT_FDCWD, target, stat.mode & 0o7777);
  sys.utimensat(AT_FDCWD, target, stat);
}

/**
 * Copies the extended attributes. What the caller may not set (`trusted.*` and `security.*` without privileges) or the file
 * system does not keep is left out; the rest must succeed.
 */
export function copyXattrs(
  sourceDirfd: number,
  source: ByteString,
  targetDirfd: number,
  target: ByteString,
  without?: CopyAttributesOptions["without"],
): void {
  for (const name of sys.llistxattrat(sourceDirfd, source)) {
    if (without?.(name)) continue;
    const value = sys.lgetxattrat(sourceDirfd, source, name);
    if (value === undefined) continue;
    const r = raw.lsetxattrat(targetDirfd, target, name, value);
    if (r >= 0 || r === -EOPNOTSUPP) continue;
    if (r === -EPERM && !name.startsWith("user.")) continue;
    throw new SyscallError(`lsetxattr ${textOfBytes(name)}`, -r, textOfBytes(target));
  }
}
