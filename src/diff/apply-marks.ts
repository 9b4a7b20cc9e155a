/**
 * Writing the marks of deletions into a layer, as its union file system takes them (../overlayfs/layer-marks.ts): the
 * kernel's overlayfs its devices and attributes, AUFS its files. Where any mark counts, overlayfs's are written, and AUFS's
 * where those may not be.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { knowsFileMarks, markName, opaqueName } from "../overlayfs/layer-marks.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import type { ApplyTarget } from "./source.ts";

const EPERM = 1;
const ENOENT = 2;
const EEXIST = 17;
const EOPNOTSUPP = 95;
const opaqueValue = Buffer.from("y");

export class MarkWriter {
  readonly #target: ApplyTarget;
  readonly #files: boolean;

  constructor(target: ApplyTarget) {
    this.#target = target;
    this.#files = target.whiteouts === "aufs" || knowsFileMarks(target.marks);
  }

  /** Hides a name of a directory. `subject` is what errors name. */
  whiteout(dirfd: number, name: ByteString, subject: ByteString): void {
    if (this.#target.whiteouts !== "aufs") {
      const result = raw.mknodat(dirfd, name, C.S_IFCHR, 0, 0);
      if (result >= 0) return;
      if (result !== -EPERM) throw new SyscallError("mknodat", -result, textOfBytes(subject));
      if (!this.#files) throw this.#noDevices(subject);
    }
    makeFile(dirfd, markName + name, subject);
  }

  /** Takes a whiteout away. */
  unhide(dirfd: number, name: ByteString, subject: ByteString): void {
    if (!this.#files) return;
    const result = raw.unlinkat(dirfd, markName + name);
    if (result < 0 && result !== -ENOENT) throw new SyscallError("unlinkat", -result, textOfBytes(subject));
  }

  /** Makes the directory `fd` hide all that lies below it. */
  opaque(fd: number, subject: ByteString): void {
    if (this.#target.whiteouts !== "aufs") {
      const result = raw.lsetxattrat(fd, ".", `${this.#target.prefix}opaque`, opaqueValue);
      if (result >= 0) return;
      if (!this.#files || (result !== -EPERM && result !== -EOPNOTSUPP)) throw this.#noXattrs(-result, subject);
    }
    makeFile(fd, opaqueName, subject);
  }

  #noDevices(subject: ByteString): LamellaError {
    return new LamellaError(
      "permission_denied",
      "EPERM",
      `${textOfBytes(subject)}: a whiteout (device 0:0) cannot be made in ${textOfBytes(this.#target.root)}`,
      { hint: "use a kernel of at least 5.8 and a file system not mounted by another overlay, or the vfs driver" },
    );
  }

  #noXattrs(errno: number, subject: ByteString): LamellaError {
    const { prefix } = this.#target;
    return new LamellaError(
      errno === EPERM ? "permission_denied" : "failed_precondition",
      "OPAQUE_XATTR",
      `${textOfBytes(subject)}: the attribute ${prefix}opaque cannot be set (errno ${errno})`,
      { hint: "the layers must lie on a file system with extended attributes; in a user namespace use user.overlay." },
    );
  }
}

function makeFile(dirfd: number, name: ByteString, subject: ByteString): void {
  const fd = raw.openat(dirfd, name, C.O_WRONLY | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW, 0o444);
  if (fd >= 0) raw.close(fd);
  else if (fd !== -EEXIST) throw new SyscallError("openat", -fd, textOfBytes(subject));
}
