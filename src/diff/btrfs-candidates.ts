/**
 * Which names may differ between two read-only btrfs subvolumes: asked of the kernel, which compares the two trees of the
 * file system block by block and passes over all blocks they share (BTRFS_IOC_SEND, without file contents).
 *
 * The send stream says what to do to the parent's tree to get the layer's. What its commands name may differ; a directory
 * that was moved, and so has other names before and after, may differ in all that is below. The stream speaks of an inode by
 * one of its names: the others, in both trees, are found beside the inode (./btrfs-links.ts), until no name is missing.
 *
 * Runs where blocking is allowed: the kernel writes the stream to a file in memory, which is read afterwards.
 */
import { isLamellaError } from "../errors/lamella-error.ts";
import { errnoNames, hasCode } from "../errors/syscall-error.ts";
import { walkSync } from "../fs/walk.ts";
import { openBeneath } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import { BTRFS_FIRST_FREE_OBJECTID, BTRFS_SUPER_MAGIC, sendWithoutData, subvolumeInfo } from "../sys/btrfs.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, memfd_create, OwnedFd, pread64, type Stat, statfs } from "../sys/syscalls.ts";
import { InodeNames } from "./btrfs-links.ts";
import { PlayedNames } from "./btrfs-names.ts";
import { SendStreamReader } from "./btrfs-stream.ts";
import type { CandidatesHint } from "./source.ts";

const EPERM = 1;

/** The roots of two read-only subvolumes, open. */
export interface SubvolumeRoots {
  readonly treeFd: number;
  readonly parentFd: number;
}

/** The names that may differ; or why the kernel does not tell. `check` is called now and then and may throw. */
export function sendCandidates(roots: SubvolumeRoots, check: () => void): CandidatesHint | string {
  for (const fd of [roots.treeFd, roots.parentFd]) if (!isSubvolume(fd)) return "a tree is no btrfs subvolume";
  const names = new PlayedNames();
  try {
    using stream = memfd_create("lamella-send");
    const r = sendWithoutData(roots.treeFd, subvolumeInfo(roots.parentFd).id, stream.fd);
    if (r === -EPERM) return "btrfs send needs CAP_SYS_ADMIN and read-only subvolumes";
    if (r < 0) return `btrfs send gave ${errnoNames.get(-r) ?? -r}`;
    readStream(stream.fd, names, check);
  } catch (error) {
    if (isLamellaError(error, "data_loss")) return error.message;
    throw error;
  }
  return candidatesOf(roots, names, check);
}

function isSubvolume(fd: number): boolean {
  const { inoLow, inoHigh } = fstat(fd);
  if (inoLow !== BTRFS_FIRST_FREE_OBJECTID || inoHigh !== 0) return false;
  return statfs(`/proc/self/fd/${fd}`).type === BTRFS_SUPER_MAGIC;
}

function readStream(fd: number, names: PlayedNames, check: () => void): void {
  const reader = new SendStreamReader((command) => names.play(command));
  const buffer = Buffer.allocUnsafe(256 * 1024);
  for (let at = 0; ; ) {
    check();
    const n = pread64(fd, buffer, buffer.length, at);
    if (n === 0) break;
    reader.push(buffer.subarray(0, n));
    at += n;
  }
  reader.end();
}

function candidatesOf(roots: SubvolumeRoots, names: PlayedNames, check: () => void): CandidatesHint {
  const subtrees = new Set<ByteString>();
  const moved = new Set<ByteString>();
  const seeds: ByteString[] = [];
  for (const { before, after, old } of names.named()) {
    if (after !== undefined && after !== before) {
      subtrees.add(after);
      if (before !== undefined) moved.add(after);
    }
    // All names of a new object are new, and so named in the stream.
    if (!old) continue;
    if (before !== undefined) seeds.push(before);
    if (after !== undefined && after !== before) seeds.push(after);
  }
  using linked = new LinkedNames(roots);
  // Sorted, so that names of one directory come one after another.
  for (const path of seeds.sort()) {
    check();
    linked.add(path);
  }
  // What was not named in a directory that was moved has other names now all the same.
  for (const path of moved) if (!isBelow(path, moved)) linked.addBelow(path, check);
  return {
    kind: "candidates",
    paths: [...linked.paths].filter((path) => !subtrees.has(path) && !isBelow(path, subtrees)),
    subtrees: [...subtrees].filter((path) => !isBelow(path, subtrees)),
  };
}

function isBelow(path: ByteString, directories: ReadonlySet<ByteString>): boolean {
  for (let cut = path.lastIndexOf("/"); cut > 0; cut = path.lastIndexOf("/", cut - 1))
    if (directories.has(path.slice(0, cut))) return true;
  return false;
}

/** Names, and with each of them all names that its inode has, in either tree. */
class LinkedNames implements Disposable {
  readonly paths = new Set<ByteString>();
  readonly #sides: readonly Side[];

  constructor({ treeFd, parentFd }: SubvolumeRoots) {
    this.#sides = [new Side(treeFd), new Side(parentFd)];
  }

  add(path: ByteString): void {
    const waiting = [path];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (this.paths.has(next)) continue;
      this.paths.add(next);
      for (const side of this.#sides) waiting.push(...side.otherNames(side.stat(next)));
    }
  }

  /** Adds the names that inodes below a directory of the layer's tree have wherever they are. */
  addBelow(path: ByteString, check: () => void): void {
    const [tree] = this.#sides;
    if (tree === undefined || !isDirectory(tree.stat(path))) return;
    using directory = new OwnedFd(openBeneath(tree.fd, path));
    walkSync(directory.fd, ({ stat }) => {
      check();
      for (const name of tree.otherNames(stat)) this.add(name);
    });
  }

  [Symbol.dispose](): void {
    for (const side of this.#sides) side[Symbol.dispose]();
  }
}

/** One of the trees. */
class Side implements Disposable {
  readonly fd: number;
  readonly #names: InodeNames;
  readonly #seen = new Set<number>();
  /** The directory looked into last; undefined when the tree has none of that path. */
  #directory: { readonly path: ByteString; readonly fd: OwnedFd | undefined } | undefined;

  constructor(fd: number) {
    this.fd = fd;
    this.#names = new InodeNames(fd);
  }

  /** The object at a path; undefined when there is none. */
  stat(path: ByteString): Stat | undefined {
    const cut = path.lastIndexOf("/");
    const fd = this.#open(path.slice(0, Math.max(0, cut)));
    const stat = fd === undefined ? undefined : raw.statx(fd, path.slice(cut + 1));
    return typeof stat === "number" ? undefined : stat;
  }

  /** All names of an inode that has several; none when it has one, or has been asked for before. */
  otherNames(stat: Stat | undefined): Iterable<ByteString> {
    if (stat === undefined || stat.nlink < 2 || isDirectory(stat)) return [];
    const inode = stat.inoHigh * 2 ** 32 + stat.inoLow;
    if (this.#seen.has(inode)) return [];
    this.#seen.add(inode);
    return this.#names.of(inode);
  }

  #open(path: ByteString): number | undefined {
    if (path === "") return this.fd;
    if (this.#directory?.path !== path) {
      this.#directory?.fd?.[Symbol.dispose]();
      this.#directory = { path, fd: openIfThere(this.fd, path) };
    }
    return this.#directory.fd?.fd;
  }

  [Symbol.dispose](): void {
    this.#directory?.fd?.[Symbol.dispose]();
  }
}

function openIfThere(fd: number, path: ByteString): OwnedFd | undefined {
  try {
    return new OwnedFd(openBeneath(fd, path));
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR", "ELOOP")) return undefined;
    throw error;
  }
}

function isDirectory(stat: Stat | undefined): boolean {
  return stat !== undefined && (stat.mode & C.S_IFMT) === C.S_IFDIR;
}
