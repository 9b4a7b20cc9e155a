/**
 * Copies a whole tree so that nothing but inode numbers, ctimes and birth times tells the copy from the original: content
 * (see ./copy-file.ts), holes, hard links within the tree, owners, modes, extended attributes and ACLs, nanosecond times,
 * symbolic links, devices, fifos and sockets.
 *
 * Several threads share the work (./walk-share.ts): each does directory after directory, and lists the names of inodes that
 * have several; one thread gives the copy those at the end.
 *
 * Everything goes by descriptors, one directory below the other, and follows no symbolic link. A directory gets its own
 * attributes after all names in it, so that neither its times nor a missing write permission nor a default ACL stand in the
 * way. For each object the order is owner, attributes, mode, times: chown clears set-id bits and capabilities, and a
 * read-only file takes no attribute from an unprivileged owner.
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
import { BOTH, openBeneath, type SharedDirectory, WorkShare, type WorkShareMemory, walkShared } from "./walk-share.ts";

/** Two trees: the one there is, and the root of the one to be made, an empty directory. Descriptors of any thread. */
export interface TreePair {
  readonly share: WorkShareMemory;
  readonly fromFd: number;
  readonly toFd: number;
}

/** A name of an object that has several. */
export interface LinkedName {
  /** Relative to the root. */
  readonly path: ByteString;
  /** The original's (`inodeKey`). */
  readonly inode: string;
}

/** What one thread did. */
export interface CopiedPart {
  readonly entries: number;
  /** Bytes written; extents shared by reflink are not among them. */
  readonly copiedBytes: number;
  readonly reflinkedFiles: number;
  /** Names that are not there yet, see {@link copyLinked}. */
  readonly linked: readonly LinkedName[];
}

/** What a copy did. */
export type CopiedTree = Omit<CopiedPart, "linked">;

/**
 * Copies the directory `source` with all below it to `target`, which must not exist, or be an empty directory.
 * Both are paths of the host. Synchronous, in one thread.
 */
export function copyTree(source: ByteString, target: ByteString): CopiedTree {
  const { from, to } = openTrees(source, target);
  using _from = from;
  using _to = to;
  const pair = { share: WorkShare.start(BOTH).memory, fromFd: from.fd, toFd: to.fd };
  const check = (): void => {};
  const part = copyPart(pair, check);
  return sumOf([part, copyLinked(pair, part.linked, check)]);
}

/** Opens both roots, and makes the second where it is not there. The caller closes them. */
export function openTrees(source: ByteString, target: ByteString): { from: sys.OwnedFd; to: sys.OwnedFd } {
  const from = sys.open(source, O_RDONLY | O_DIRECTORY);
  try {
    if (sys.statIfExists(AT_FDCWD, target) === undefined) sys.mkdirat(AT_FDCWD, target, 0o700);
    return { from, to: sys.open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) };
  } catch (error) {
    from[Symbol.dispose]();
    throw error;
  }
}

/** What several parts come to. */
export function sumOf(parts: readonly CopiedTree[]): CopiedTree {
  const sum = (one: (part: CopiedTree) => number): number => parts.reduce((total, part) => total + one(part), 0);
  return {
    entries: sum((part) => part.entries),
    copiedBytes: sum((part) => part.copiedBytes),
    reflinkedFiles: sum((part) => part.reflinkedFiles),
  };
}

/** Copies directory after directory until there are none left. `check` is called once a directory and may throw. */
export function copyPart({ share, fromFd, toFd }: TreePair, check: () => void): CopiedPart {
  const files = new FileCopier();
  const linked: LinkedName[] = [];
  let entries = 0;
  walkShared(new WorkShare(share), { fd: fromFd, otherFd: toFd }, (directory) => {
    check();
    for (const { name } of sys.readdir(directory.fd)) {
      entries++;
      copyEntry(directory, name, files, linked);
    }
    // What is below is made in directories that are there: nothing but linked names will come into this one any more.
    copyDirectoryAttributes(directory.fd, directory.otherFd);
  });
  return { entries, copiedBytes: files.copiedBytes, reflinkedFiles: files.reflinked, linked };
}

function copyEntry(directory: SharedDirectory, name: ByteString, files: FileCopier, linked: LinkedName[]): void {
  const { fd: fromFd, otherFd: toFd, subdirectories } = directory;
  const path = directory.path === "" ? name : `${directory.path}/${name}`;
  const stat = sys.statx(fromFd, name);
  if ((stat.mode & S_IFMT) === S_IFDIR) {
    sys.mkdirat(toFd, name, 0o700);
    subdirectories.push(BOTH + name);
  } else if (stat.nlink > 1) linked.push({ path, inode: sys.inodeKey(stat) });
  else copyObject(files, { fromFd, toFd, name, path, stat });
}

/**
 * Once all else is copied: copies each object that has several names once, and links its other names. The one entry it
 * counts is the root. `check` is called once a name and may throw.
 */
export function copyLinked({ fromFd, toFd }: TreePair, linked: readonly LinkedName[], check: () => void): CopiedTree {
  const files = new FileCopier();
  const first = new Map<string, ByteString>();
  for (const { path, inode } of linked) {
    check();
    const slash = path.lastIndexOf("/");
    const folder = slash < 0 ? "" : path.slice(0, slash);
    const name = path.slice(slash + 1);
    using from = new sys.OwnedFd(openBeneath(fromFd, folder));
    using to = new sys.OwnedFd(openBeneath(toFd, folder));
    const original = first.get(inode);
    if (original === undefined) {
      first.set(inode, path);
      copyObject(files, { fromFd: from.fd, toFd: to.fd, name, path, stat: sys.statx(from.fd, name) });
    } else sys.linkat(toFd, original, to.fd, name);
    sys.utimensat(to.fd, "", sys.fstat(from.fd));
  }
  return { entries: 1, copiedBytes: files.copiedBytes, reflinkedFiles: files.reflinked };
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
  const made = sys.fstat(to.fd);
  if (made.uid !== stat.uid || made.gid !== stat.gid) sys.lchownat(toFd, toName, stat.uid, stat.gid);
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
