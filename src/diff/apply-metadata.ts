/**
 * Owners, modes, attributes and times, in the order that keeps them: create, chown (which clears setuid and file
 * capabilities), chmod, extended attributes, times.
 *
 * Attributes that cannot be kept on this host are left out and counted, as other engines do: the file system has none of
 * that kind (ENOTSUP), or only the initial user namespace may set them (EPERM). Overlay's own attributes in an archive are
 * always left out, whichever prefix: they would change what the merged view shows (hidden names, content of other files).
 */
import { readFileSync } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { isMarkXattr, type LayerMarks } from "../overlayfs/layer-marks.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { lchmodat } from "../sys/syscalls.ts";

const EPERM = 1;
const EINVAL = 22;
const EOPNOTSUPP = 95;

/** What an entry says about its object, as far as it is set after creation. */
export interface ObjectMetadata {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly xattrs: Iterable<readonly [ByteString, Uint8Array]>;
}

/** The attribute that names created in a directory inherit. */
export const defaultAclName = "system.posix_acl_default";

/** True for an attribute that would mean something to overlayfs itself, or to fuse-overlayfs. */
export function isOverlayXattr(name: ByteString): boolean {
  return isMarkXattr(name, anyMarks);
}

const anyMarks: LayerMarks = { prefix: "trusted.overlay.", marks: "any" };

/** The umask of the process, or all bits where it cannot be known without changing it for other threads. */
function umaskOfProcess(): number {
  const match = /^Umask:\s*([0-7]+)$/m.exec(readFileSync("/proc/self/status", "latin1"));
  return match?.[1] === undefined ? 0o777 : Number.parseInt(match[1], 8);
}

/** Sets metadata on behalf of one run of the applier. Errors are SyscallErrors that name `subject`. */
export class MetadataWriter {
  /** What errors name: the entry being applied. */
  subject: ByteString = "";
  /** Attributes that could not be kept on this host. */
  skippedXattrs = 0;
  readonly umask = umaskOfProcess();
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #gid = process.getegid?.() ?? 0;

  /** Throws when a call failed; answers its result otherwise. */
  check(call: string, result: number): number {
    if (result >= 0) return result;
    throw new SyscallError(call, -result, textOfBytes(this.subject));
  }

  /** True when what this process creates in a directory of group `parentGid` belongs to that owner without a chown. */
  isOwnByCreation(uid: number, gid: number, parentGid: number): boolean {
    return uid === this.#uid && gid === this.#gid && parentGid === gid;
  }

  /** Throws for owners that chown cannot express; -1 would mean "leave as it is". */
  checkOwner(uid: number, gid: number): void {
    if (uid >= 0 && uid < 0xffffffff && gid >= 0 && gid < 0xffffffff) return;
    throw new LamellaError(
      "invalid_argument",
      "TAR_OWNER",
      `${textOfBytes(this.subject)}: ${uid}:${gid} is no owner a file can have`,
    );
  }

  fchown(fd: number, uid: number, gid: number): void {
    this.#checkChown(raw.fchown(fd, uid, gid), uid, gid);
  }

  lchown(dirfd: number, name: ByteString, uid: number, gid: number): void {
    this.#checkChown(raw.fchownat(dirfd, name, uid, gid, C.AT_SYMLINK_NOFOLLOW), uid, gid);
  }

  /** Changes the mode of a name that is no symbolic link, never through one. */
  lchmod(dirfd: number, name: ByteString, mode: number): void {
    lchmodat(dirfd, name, mode);
  }

  #checkChown(result: number, uid: number, gid: number): void {
    if (result >= 0) return;
    if (result !== -EINVAL && result !== -EPERM) this.check("fchownat", result);
    const subject = `${textOfBytes(this.subject)}: the owner ${uid}:${gid}`;
    if (result === -EINVAL) {
      throw new LamellaError(
        "failed_precondition",
        "UNMAPPED_OWNER",
        `${subject} does not exist in this user namespace`,
        {
          hint: "give the user more ids in /etc/subuid and /etc/subgid and install newuidmap and newgidmap (package uidmap)",
        },
      );
    }
    throw new LamellaError("permission_denied", "EPERM", `${subject} may not be set`, {
      hint: "run as root or in a user namespace that maps these ids",
    });
  }

  /** Sets the attributes of an open file, overlay's own left out. */
  fsetxattrs(fd: number, xattrs: ObjectMetadata["xattrs"]): void {
    for (const [name, value] of xattrs)
      if (!isOverlayXattr(name)) this.#checkXattr(raw.fsetxattr(fd, name, value), name);
  }

  /** Sets the attributes of a name, never through a symbolic link; overlay's own and the default ACL left out. */
  lsetxattrs(dirfd: number, path: ByteString, xattrs: ObjectMetadata["xattrs"]): void {
    for (const [name, value] of xattrs) {
      if (isOverlayXattr(name) || name === defaultAclName) continue;
      this.#checkXattr(raw.lsetxattrat(dirfd, path, name, value), name);
    }
  }

  /** Sets one attribute; counts it as skipped where this host cannot have it. */
  lsetxattr(dirfd: number, path: ByteString, name: ByteString, value: Uint8Array): void {
    this.#checkXattr(raw.lsetxattrat(dirfd, path, name, value), name);
  }

  #checkXattr(result: number, name: ByteString): void {
    if (result >= 0) return;
    if (result === -EOPNOTSUPP || result === -EPERM) {
      this.skippedXattrs++;
      return;
    }
    const text = textOfBytes(name.length > 256 ? `${name.slice(0, 256)}…` : name);
    throw new SyscallError(`setxattr ${text}`, -result, textOfBytes(this.subject), {
      hint: "the file system limits how much the attributes of a file may hold",
    });
  }

  /** Sets both times of a name (`.` for the directory itself), never through a symbolic link. */
  utimens(dirfd: number, name: ByteString, sec: number, nsec: number): void {
    this.check("utimensat", raw.utimensat(dirfd, name, sec, nsec, sec, nsec));
  }
}
