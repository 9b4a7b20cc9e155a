/**
 * Paths inside an untrusted root that may not exist yet: where a Dockerfile's COPY, WORKDIR or mount target leads.
 *
 * Resolution is the kernel's inside a chroot: links that are absolute start at the root, `..` at the root stays there, a
 * dangling link leads to its missing target. Every component is opened beneath the directory before it without following
 * links, and `..` goes back to a directory already open; so nothing outside the root is ever reached, whatever changes the
 * tree meanwhile, and magic links of a /proc inside are only text.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_PATH, S_IFDIR, S_IFLNK, S_IFMT } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;
/** As the kernel (MAXSYMLINKS). */
const MAX_LINKS = 40;

/** Where a path leads. Holds a descriptor. */
export interface RootedPath extends Disposable {
  /** The directory the object is in, or (when components are missing) the last one that exists. Root when the path is. */
  readonly directory: number;
  /** Name in `directory`: undefined when the path is the root itself. */
  readonly name: ByteString | undefined;
  /** What follows `directory` and does not exist: `name` first. Empty when the object exists. */
  readonly missing: readonly ByteString[];
  /** The object; undefined when it does not exist. */
  readonly stat: sys.Stat | undefined;
  /** Absolute inside the root, without links, `.` and `..`; `/` is the root. */
  readonly path: ByteString;
}

export interface LocateOptions {
  /** Follow a link that is the last component too. Default true. */
  readonly followLast?: boolean;
}

/** Resolves `path` inside the root directory `rootFd`. Errors: SyscallError (ELOOP, ENOTDIR, ENAMETOOLONG ...). */
export function locate(rootFd: number, path: ByteString, options: LocateOptions = {}): RootedPath {
  const directories: { readonly fd: number; readonly name: ByteString }[] = [];
  const release = (from: number): void => {
    for (const { fd } of directories.splice(from)) raw.close(fd);
  };
  const current = (): number => directories.at(-1)?.fd ?? rootFd;
  try {
    const missing: ByteString[] = [];
    let rest = path.split("/").reverse();
    let links = 0;
    let last: { name: ByteString; stat: sys.Stat } | undefined;
    for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
      if (name === "" || name === ".") {
        if (last !== undefined) throw new SyscallError("openat", ENOTDIR, textOfBytes(path));
        continue;
      }
      if (last !== undefined) throw new SyscallError("openat", ENOTDIR, textOfBytes(path));
      if (name === "..") {
        if (missing.length > 0) missing.pop();
        else release(Math.max(0, directories.length - 1));
        continue;
      }
      if (missing.length > 0) {
        missing.push(name);
        continue;
      }
      const stat = raw.statx(current(), name);
      if (stat === -ENOENT) {
        missing.push(name);
        continue;
      }
      if (typeof stat === "number") throw new SyscallError("statx", -stat, textOfBytes(path));
      const type = stat.mode & S_IFMT;
      const atEnd = rest.every((component) => component === "");
      if (type === S_IFLNK && !(atEnd && rest.length === 0 && options.followLast === false)) {
        if (++links > MAX_LINKS) throw new SyscallError("openat", ELOOP, textOfBytes(path));
        const target = sys.readlinkat(current(), name);
        if (target.startsWith("/")) release(0);
        rest = [...rest, ...target.split("/").reverse()];
        continue;
      }
      if (type !== S_IFDIR) {
        last = { name, stat };
        continue;
      }
      const fd = sys.openat(current(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
      directories.push({ fd, name });
    }
    return located(rootFd, directories, last, missing, release);
  } catch (error) {
    release(0);
    throw error;
  }
}

function located(
  rootFd: number,
  directories: readonly { readonly fd: number; readonly name: ByteString }[],
  last: { readonly name: ByteString; readonly stat: sys.Stat } | undefined,
  missing: readonly ByteString[],
  release: (from: number) => void,
): RootedPath {
  const names = directories.map(({ name }) => name);
  const dispose = { [Symbol.dispose]: () => release(0) };
  const path = `/${[...names, ...(last === undefined ? missing : [last.name])].join("/")}`;
  const top = directories.at(-1);
  if (last !== undefined)
    return { directory: top?.fd ?? rootFd, name: last.name, missing, stat: last.stat, path, ...dispose };
  if (missing.length > 0)
    return { directory: top?.fd ?? rootFd, name: missing[0], missing, stat: undefined, path, ...dispose };
  const stat = sys.fstat(top?.fd ?? rootFd);
  if (top === undefined) return { directory: rootFd, name: undefined, missing, stat, path, ...dispose };
  return { directory: directories.at(-2)?.fd ?? rootFd, name: top.name, missing, stat, path, ...dispose };
}

/** What new directories are given. */
export interface NewDirectory {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Opens (O_PATH) the directory `path` inside the root, making what is missing. Mode and owner are set exactly, whatever the
 * umask. Errors: ENOTDIR when something else is there.
 */
export function makeDirectories(rootFd: number, path: ByteString, attributes: NewDirectory): sys.OwnedFd {
  using found = locate(rootFd, path);
  if (found.stat !== undefined) {
    if ((found.stat.mode & S_IFMT) !== S_IFDIR) throw new SyscallError("mkdirat", ENOTDIR, textOfBytes(path));
    return openDirectory(found.directory, found.name ?? ".");
  }
  let directory = found.directory;
  let opened: sys.OwnedFd | undefined;
  for (const name of found.missing) {
    sys.mkdirat(directory, name, attributes.mode);
    if (attributes.uid !== 0 || attributes.gid !== 0) sys.lchownat(directory, name, attributes.uid, attributes.gid);
    sys.lchmodat(directory, name, attributes.mode);
    const made = openDirectory(directory, name);
    opened?.[Symbol.dispose]();
    opened = made;
    directory = made.fd;
  }
  return opened ?? openDirectory(found.directory, found.name ?? ".");
}

/** Opens a directory by its name without following a link, for use as the start of other calls. */
export function openDirectory(directory: number, name: ByteString): sys.OwnedFd {
  return new sys.OwnedFd(sys.openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
}
