/**
 * A directory whose content is not trusted, and paths inside it. Every path is resolved beneath an open descriptor as if the
 * directory were the root: `/` and absolute symbolic links start there, `..` stops there, and links the kernel makes up
 * (`/proc/self/fd/3`, `/proc/1/root`) are refused with ELOOP. Nobody who writes into the tree, now or while a path is being
 * resolved, can lead an operation out of it.
 *
 * The kernel does it (openat2: RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS); on a kernel without openat2 (before 5.6, or filtered)
 * each component is opened with O_NOFOLLOW and symbolic links are resolved here. `..` then goes back to the descriptor it came
 * through, which no rename can change. That way refuses all symbolic links that lie on procfs.
 *
 * What names an object rather than opens it (stat, readlink, remove ...) resolves all components but the last.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import {
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  RESOLVE_BENEATH,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { removeTreeAt } from "./remove-tree.ts";

const ENOENT = 2;
const EAGAIN = 11;
const EEXIST = 17;
const EXDEV = 18;
const ENOTDIR = 20;
const EINVAL = 22;
const ELOOP = 40;
const PROC_SUPER_MAGIC = 0x9fa0;
const MAX_SYMLINKS = 40;
/** The kernel answers EAGAIN when a rename crossed its way through `..`; so often it is asked again. */
const MAX_RACES = 32;

/** Who resolves paths: `auto` takes the kernel where it can. */
export type Resolver = "auto" | "kernel" | "walk";

export interface ResolveOptions {
  /** What leads out of the root: `clamp` (the default) takes the root for `/`, `refuse` fails with EXDEV. */
  readonly escape?: "clamp" | "refuse";
  /** `refuse`: any symbolic link on the way, the last component included, fails with ELOOP. */
  readonly symlinks?: "follow" | "refuse";
}

export interface MkdirOptions {
  /** Permission bits of each directory made, exactly; 0755 when not given. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** The directory an object is named in, and its name there. */
export interface NamedAt extends Disposable {
  readonly fd: number;
  readonly name: ByteString;
}

export class RootDir implements Disposable {
  readonly #root: sys.OwnedFd;
  readonly #kernel: boolean;
  readonly #shown: ByteString;

  private constructor(root: sys.OwnedFd, shown: ByteString, resolver: Resolver) {
    this.#root = root;
    this.#shown = shown;
    this.#kernel = resolver === "kernel" || (resolver === "auto" && raw.haveOpenat2);
  }

  /** `path`: a directory of the host, trusted itself. */
  static open(path: ByteString, resolver: Resolver = "auto"): RootDir {
    return new RootDir(sys.open(path, O_PATH | O_DIRECTORY), path, resolver);
  }

  /** The root's own descriptor (O_PATH). */
  get fd(): number {
    return this.#root.fd;
  }

  /**
   * Opens an object. With O_NOFOLLOW a symbolic link in the last place is not followed.
   * Errors: those of open(2); ELOOP for a magic link or too many links, EXDEV with `escape: "refuse"`.
   */
  open(path: ByteString, flags: number, mode = 0, options: ResolveOptions = {}): sys.OwnedFd {
    const fd = this.#kernel
      ? this.#openByKernel(path, flags, mode, options)
      : this.#openByWalk(path, flags, mode, options);
    if (fd < 0) throw this.#failed("open", fd, path);
    return new sys.OwnedFd(fd);
  }

  /** The directory that holds `path`, resolved, and the last component, not looked at. For `*at` calls of the caller's. */
  at(path: ByteString, options: ResolveOptions = {}): NamedAt {
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    const name = parts.pop();
    if (name === undefined || name === "..") throw this.#failed("open", -EINVAL, path);
    const directory = this.open(parts.join("/"), O_PATH | O_DIRECTORY, 0, options);
    return { fd: directory.fd, name, [Symbol.dispose]: () => directory[Symbol.dispose]() };
  }

  /** lstat; undefined when there is nothing of that name. */
  stat(path: ByteString, options: ResolveOptions = {}): sys.Stat | undefined {
    if (/^[/.]*$/.test(path) && !path.includes("..")) return sys.fstat(this.fd);
    try {
      using place = this.at(path, options);
      return sys.statIfExists(place.fd, place.name);
    } catch (error) {
      if (error instanceof SyscallError && (error.errno === ENOENT || error.errno === ENOTDIR)) return undefined;
      throw error;
    }
  }

  readlink(path: ByteString, options: ResolveOptions = {}): ByteString {
    using place = this.at(path, options);
    return sys.readlinkat(place.fd, place.name);
  }

  /** The names in a directory, without `.` and `..`. */
  readdir(path: ByteString, options: ResolveOptions = {}): sys.DirEntry[] {
    using directory = this.open(path, O_RDONLY | O_DIRECTORY, 0, options);
    return sys.readdir(directory.fd);
  }

  /**
   * Makes a directory and those above it that are missing; what exists stays as it is. Symbolic links to directories inside
   * the root are followed. Returns how many were made. Errors: ENOTDIR, EEXIST (a dangling link in the way).
   */
  mkdirAll(path: ByteString, { mode = 0o755, uid, gid }: MkdirOptions = {}, options: ResolveOptions = {}): number {
    let made = 0;
    let prefix = "";
    for (const part of path.split("/")) {
      if (part === "" || part === ".") continue;
      prefix = prefix === "" ? part : `${prefix}/${part}`;
      for (let attempt = 0; ; attempt++) {
        try {
          this.open(prefix, O_PATH | O_DIRECTORY, 0, options)[Symbol.dispose]();
          break;
        } catch (error) {
          if (!(error instanceof SyscallError) || error.errno !== ENOENT) throw error;
        }
        using place = this.at(prefix, options);
        const r = raw.mkdirat(place.fd, place.name, mode & 0o777);
        // A second EEXIST is no race with another maker: a dangling symbolic link is in the way.
        if (r === -EEXIST && attempt === 0) continue;
        if (r < 0) throw this.#failed("mkdirat", r, prefix);
        made++;
        using created = new sys.OwnedFd(sys.openat(place.fd, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (uid !== undefined || gid !== undefined) {
          const owned = raw.fchown(created.fd, uid ?? -1, gid ?? -1);
          if (owned < 0) throw this.#failed("fchown", owned, prefix);
        }
        raw.fchmod(created.fd, mode & 0o7777);
        break;
      }
    }
    return made;
  }

  /** Removes an object, a directory with all below it. True when nothing is left of it, also when it was not there. */
  remove(path: ByteString, options: ResolveOptions = {}): boolean {
    if (this.stat(path, options) === undefined) return true;
    using place = this.at(path, options);
    return removeTreeAt(place.fd, place.name);
  }

  [Symbol.dispose](): void {
    this.#root[Symbol.dispose]();
  }

  #openByKernel(path: ByteString, flags: number, mode: number, options: ResolveOptions): number {
    const refuse = options.escape === "refuse";
    let resolve = RESOLVE_NO_MAGICLINKS | (refuse ? RESOLVE_BENEATH : RESOLVE_IN_ROOT);
    if (options.symlinks === "refuse") resolve |= RESOLVE_NO_SYMLINKS;
    const wanted = path === "" ? "." : path;
    for (let i = 0; i < MAX_RACES; i++) {
      const fd = raw.openat2(this.fd, wanted, flags, (flags & O_CREAT) === 0 ? 0 : mode, resolve);
      if (fd !== -EAGAIN) return fd;
    }
    return this.#openByWalk(path, flags, mode, options);
  }

  /** The same answer by hand. Returns a descriptor or -errno. */
  #openByWalk(path: ByteString, flags: number, mode: number, options: ResolveOptions): number {
    const refuse = options.escape === "refuse";
    if (refuse && path.startsWith("/")) return -EXDEV;
    // Components still to go, the next one last; and the directories gone through, the root excepted.
    const todo = path.split("/").reverse();
    const trail: sys.OwnedFd[] = [];
    const here = (): number => trail.at(-1)?.fd ?? this.fd;
    const toRoot = (): void => {
      for (const directory of trail.splice(0)) directory[Symbol.dispose]();
    };
    let links = 0;
    try {
      for (;;) {
        const part = todo.pop();
        const last = todo.every((rest) => rest === "" || rest === ".");
        if (part === undefined) return raw.openat(here(), ".", flags & ~(O_CREAT | O_EXCL));
        if (part === "" || part === ".") continue;
        if (part === "..") {
          if (trail.length === 0 && refuse) return -EXDEV;
          trail.pop()?.[Symbol.dispose]();
          continue;
        }
        // A trailing slash means a directory, and a symbolic link before it is followed.
        const final = last && todo.length === 0;
        const seen = raw.openat(here(), part, O_PATH | O_NOFOLLOW);
        if (seen === -ENOENT && last && (flags & O_CREAT) !== 0)
          return final ? raw.openat(here(), part, flags | O_NOFOLLOW, mode) : -ENOENT;
        if (seen < 0) return seen;
        using object = new sys.OwnedFd(seen);
        const type = sys.fstat(seen).mode & S_IFMT;
        if (type === S_IFLNK) {
          if (final && (flags & (O_CREAT | O_EXCL)) === (O_CREAT | O_EXCL)) return -EEXIST;
          if (options.symlinks === "refuse" && !(final && isPathOfLink(flags))) return -ELOOP;
          if (final && (flags & O_NOFOLLOW) !== 0) return raw.openat(here(), part, flags | O_NOFOLLOW, mode);
          if (++links > MAX_SYMLINKS || onProcfs(here())) return -ELOOP;
          const target = raw.readlinkat(seen, "");
          if (typeof target === "number") return target;
          if (target === "") return -ENOENT;
          if (target.startsWith("/")) {
            if (refuse) return -EXDEV;
            toRoot();
          }
          todo.push(...target.split("/").reverse());
          continue;
        }
        if (final) return this.#reopen(here(), part, flags, mode, object);
        if (type !== S_IFDIR) return -ENOTDIR;
        trail.push(new sys.OwnedFd(object.release()));
      }
    } finally {
      toRoot();
    }
  }

  /** Opens what was seen not to be a symbolic link; should it have become one, the name is refused, not followed. */
  #reopen(directory: number, name: ByteString, flags: number, mode: number, seen: sys.OwnedFd): number {
    if ((flags & O_PATH) !== 0 && (flags & O_DIRECTORY) === 0) return seen.release();
    return raw.openat(directory, name, flags | O_NOFOLLOW, mode);
  }

  #failed(syscall: string, result: number, path: ByteString): SyscallError {
    return new SyscallError(syscall, -result, `${textOfBytes(path)} in ${textOfBytes(this.#shown)}`);
  }
}

/** The one way RESOLVE_NO_SYMLINKS lets a link be opened: as itself. */
function isPathOfLink(flags: number): boolean {
  return (flags & O_PATH) !== 0 && (flags & O_NOFOLLOW) !== 0;
}

function onProcfs(directoryFd: number): boolean {
  return sys.statfs(`/proc/self/fd/${directoryFd}`).type === PROC_SUPER_MAGIC;
}
