/**
 * Copies a whole tree so that nothing but inode numbers, ctimes and birth times tells the copy from the original: content
 * (see ./copy-file.ts), holes, hard links within the tree, owners, modes, extended attributes and ACLs, nanosecond times,
 * symbolic links, devices, fifos and sockets.
 *
 * Everything goes by descriptors, one directory below the other, and follows no symbolic link. A directory gets its own
 * attributes after its content, so that neither its times nor a missing write permission nor a default ACL stand in the way.
 * For each object the order is owner, attributes, mode, times: chown clears set-id bits and capabilities, and a read-only
 * file takes no attribute from an unprivileged owner.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import {
  AT_FDCWD,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_WRONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { copyXattrs } from "./copy-attributes.ts";
import { FileCopier } from "./copy-file.ts";

export interface CopyTreeOptions {
  /** Called for each directory; throwing ends the copy, which leaves what there is so far. */
  readonly checkpoint?: () => void;
}

/** What a copy did. */
export interface CopiedTree {
  readonly entries: number;
  /** Bytes written; extents shared by reflink are not among them. */
  readonly copiedBytes: number;
  readonly reflinkedFiles: number;
}

/**
 * Copies the directory `source` with all below it to `target`, which must not exist, or be an empty directory.
 * Both are paths of the host. Synchronous.
 */
export function copyTree(source: ByteString, target: ByteString, options: CopyTreeOptions = {}): CopiedTree {
  using from = sys.open(source, O_RDONLY | O_DIRECTORY);
  if (sys.statIfExists(AT_FDCWD, target) === undefined) sys.mkdirat(AT_FDCWD, target, 0o700);
  using to = sys.open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const copy = new TreeCopy(to.fd, options.checkpoint ?? (() => {}));
  copy.directory(from.fd, to.fd, "");
  return { entries: copy.entries, copiedBytes: copy.files.copiedBytes, reflinkedFiles: copy.files.reflinked };
}

class TreeCopy {
  entries = 1;
  readonly files = new FileCopier();
  readonly #root: number;
  readonly #checkpoint: () => void;
  /** First path in the copy of every inode that has several. */
  readonly #linked = new Map<string, ByteString>();

  constructor(root: number, checkpoint: () => void) {
    this.#root = root;
    this.#checkpoint = checkpoint;
  }

  directory(fromFd: number, toFd: number, path: ByteString): void {
    this.#checkpoint();
    for (const { name } of sys.readdir(fromFd)) {
      this.entries++;
      this.#entry(fromFd, toFd, name, path === "" ? name : `${path}/${name}`);
    }
    copyDirectoryAttributes(fromFd, toFd);
  }

  #entry(fromFd: number, toFd: number, name: ByteString, path: ByteString): void {
    const stat = sys.statx(fromFd, name);
    const type = stat.mode & S_IFMT;
    if (type === S_IFDIR) {
      sys.mkdirat(toFd, name, 0o700);
      using from = new sys.OwnedFd(sys.openat(fromFd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      using to = new sys.OwnedFd(sys.openat(toFd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      this.directory(from.fd, to.fd, path);
      return;
    }
    if (stat.nlink > 1) {
      const key = sys.inodeKey(stat);
      const first = this.#linked.get(key);
      if (first !== undefined) {
        sys.linkat(this.#root, first, toFd, name);
        return;
      }
      this.#linked.set(key, path);
    }
    copyObject(this.files, { fromFd, toFd, name, path, stat });
  }
}

/** One object that is no directory, to be copied from one open directory to another. */
export interface CopiedObject {
  readonly fromFd: number;
  readonly toFd: number;
  readonly name: ByteString;
  /** Its new name, when that is another. */
  readonly toName?: ByteString;
  /** What errors tell. */
  readonly path: ByteString;
  readonly stat: sys.Stat;
}

/** Copies one object with all it has. */
export function copyObject(files: FileCopier, object: CopiedObject): void {
  const { fromFd, toFd, name, stat } = object;
  const type = stat.mode & S_IFMT;
  if (type === S_IFREG) {
    copyRegular(files, object);
    return;
  }
  const toName = object.toName ?? name;
  if (type === S_IFLNK) sys.symlinkat(sys.readlinkat(fromFd, name), toFd, toName);
  else sys.mknodat(toFd, toName, stat.mode & (S_IFMT | 0o700), stat.rdevMajor, stat.rdevMinor);
  sys.lchownat(toFd, toName, stat.uid, stat.gid);
  copyXattrs(fromFd, name, toFd, toName);
  if (type !== S_IFLNK) sys.lchmodat(toFd, toName, stat.mode & 0o7777);
  sys.utimensat(toFd, toName, stat);
}

function copyRegular(files: FileCopier, { fromFd, toFd, name, toName = name, path }: CopiedObject): void {
  using from = new sys.OwnedFd(sys.openat(fromFd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const stat = sys.fstat(from.fd);
  if ((stat.mode & S_IFMT) !== S_IFREG)
    throw new LamellaError("aborted", "TREE_CHANGED", `${textOfBytes(path)} was replaced while it was copied`);
  using to = new sys.OwnedFd(sys.openat(toFd, toName, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
  files.copy(from.fd, to.fd, stat.size, stat.blocks);
  sys.lchownat(toFd, toName, stat.uid, stat.gid);
  copyXattrs(fromFd, name, toFd, toName);
  raw.fchmod(to.fd, stat.mode & 0o7777);
  sys.utimensat(to.fd, "", stat);
}

/** Gives an open directory what another has besides its content. Called when its content is there. */
export function copyDirectoryAttributes(fromFd: number, toFd: number): void {
  const stat = sys.fstat(fromFd);
  sys.lchownat(toFd, ".", stat.uid, stat.gid);
  copyXattrs(fromFd, ".", toFd, ".");
  raw.fchmod(toFd, stat.mode & 0o7777);
  sys.utimensat(toFd, "", stat);
}
