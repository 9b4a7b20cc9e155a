/**
 * Makes a tree of hard links: new directories with the attributes of the old ones, and in them new names for the same
 * objects, whatever they are. Several threads share the work (./walk-share.ts); this is one thread's part, and the end.
 *
 * An inode can have only so many names (65,000 on ext4), and a file that is immutable gets none. Such an object is copied;
 * where it has several names in the tree they become names of one copy, so that the links within the tree stay.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, DT_DIR, DT_UNKNOWN, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, S_IFDIR, S_IFMT } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { FileCopier } from "./copy-file.ts";
import { copyDirectoryAttributes, copyObject, type LinkedName, type TreePair } from "./copy-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { walkSync } from "./walk.ts";
import { BOTH, type SharedDirectory, WorkShare, walkShared } from "./walk-share.ts";

const EPERM = 1;
const EMLINK = 31;

/** What one thread did. */
export interface LinkedPart {
  readonly entries: number;
  /** Objects that took no more names, and were copied. */
  readonly copied: readonly LinkedName[];
}

/** Links directory after directory until there are none left. `check` is called once a directory and may throw. */
export function linkPart({ share, fromFd, toFd }: TreePair, check: () => void): LinkedPart {
  const files = new FileCopier();
  const copied: LinkedName[] = [];
  let entries = 0;
  walkShared(new WorkShare(share), { fd: fromFd, otherFd: toFd }, (directory) => {
    check();
    for (const entry of sys.readdir(directory.fd)) {
      entries++;
      if (isDirectory(directory.fd, entry)) {
        sys.mkdirat(directory.otherFd, entry.name, 0o700);
        directory.subdirectories.push(BOTH + entry.name);
      } else link(directory, entry.name, files, copied);
    }
    // What is below is made in directories that are there: nothing will touch this one any more.
    copyDirectoryAttributes(directory.fd, directory.otherFd);
  });
  return { entries, copied };
}

function isDirectory(dirFd: number, { name, type }: sys.DirEntry): boolean {
  return type === DT_DIR || (type === DT_UNKNOWN && (sys.statx(dirFd, name).mode & S_IFMT) === S_IFDIR);
}

function link({ fd, otherFd, path }: SharedDirectory, name: ByteString, files: FileCopier, copied: LinkedName[]): void {
  const r = raw.linkat(fd, name, otherFd, name);
  if (r >= 0) return;
  const whole = path === "" ? name : `${path}/${name}`;
  if (r !== -EMLINK && r !== -EPERM) throw new SyscallError("linkat", -r, textOfBytes(whole));
  const stat = sys.statx(fd, name);
  copyObject(files, { fromFd: fd, toFd: otherFd, name, path: whole, stat });
  if (stat.nlink > 1) copied.push({ path: whole, inode: sys.inodeKey(stat) });
}

/** Once the tree at `target` is whole: makes all names of an inode that was copied names of one copy. */
export function joinCopies(target: ByteString, copied: readonly LinkedName[]): void {
  if (copied.length === 0) return;
  const copyOf = new Map<string, ByteString>();
  for (const { path, inode } of copied) if (!copyOf.has(inode)) copyOf.set(inode, path);
  const others = copied.filter(({ path, inode }) => copyOf.get(inode) !== path);
  using root = sys.open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  walkSync(root.fd, ({ path, stat }) => {
    const inode = sys.inodeKey(stat);
    if (copyOf.has(inode) && (stat.mode & S_IFMT) !== S_IFDIR) others.push({ path, inode });
  });
  for (const { path, inode } of others) replace(target, path, copyOf.get(inode) ?? path);
}

/** Makes the name `path` another one of `original`. The directory's times stay. */
function replace(target: ByteString, path: ByteString, original: ByteString): void {
  const slash = path.lastIndexOf("/");
  const directory = slash < 0 ? target : `${target}/${path.slice(0, slash)}`;
  const before = sys.statx(AT_FDCWD, directory);
  removeTree(`${target}/${path}`);
  sys.linkat(AT_FDCWD, `${target}/${original}`, AT_FDCWD, `${target}/${path}`);
  sys.utimensat(AT_FDCWD, directory, before);
}
