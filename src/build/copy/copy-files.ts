/**
 * COPY and ADD: copies sources into a layer as Docker's classic builder does.
 *
 * A directory's content goes into the destination directory; a file goes to the destination, or into it when it is a
 * directory or ends with a slash. Everything is owned by root or by --chown, but what comes from another stage or image
 * without --chown keeps its owner; modes and modification times (whole seconds, as layers of Docker have them) are the
 * source's. A change of owner takes set-id bits and capabilities away, as it does there. Directories merge, anything else
 * replaces what has its name. The destination is resolved inside the layer's root; below it no link is followed.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { FileCopier } from "../../fs/copy-file.ts";
import { removeTreeAt } from "../../fs/remove-tree.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import {
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { resolveOwner } from "../image-user.ts";
import { isUntouched, mountRoot } from "../root-mount.ts";
import { locate, makeDirectories, openDirectory } from "../rooted-path.ts";
import { readIdMaps, requireMapped } from "../runtime/id-map.ts";
import type { ThreadNamespaces } from "../runtime/thread-namespaces.ts";
import type { CopyJob, CopyReport } from "./copy-job.ts";
import { type Match, type SourceEntry, SourceTree } from "./source-tree.ts";

const XATTR_CAPABILITY = "security.capability";

/** Carries out one COPY or ADD. Errors: not_found for a source, invalid_argument, SyscallError, canceled. */
export async function copyFiles(
  job: CopyJob,
  namespaces: ThreadNamespaces,
  checkpoint: () => void,
): Promise<CopyReport> {
  const counts = await namespaces.step(0, async () => {
    const path = namespaces.directory("root");
    using tree = new SourceTree(job.sources, namespaces);
    const matches = tree.find();
    using _mount = mountRoot(job.view, path, { volatile: true });
    using root = sys.open(path, O_PATH | O_DIRECTORY);
    const owner = job.chown === undefined ? { uid: 0, gid: 0 } : resolveOwner(root.fd, job.chown);
    requireMapped(readIdMaps(), owner.uid, owner.gid, `--chown=${job.chown ?? "0:0"}`);
    checkDestination(job, matches.length + job.files.length);
    const copier = new Copier(root.fd, job, owner, checkpoint);
    for (const match of matches) await copier.source(tree, match);
    for (const file of job.files) copier.inline(bytesOfText(file.name), Buffer.from(file.content));
    return { entries: copier.entries, bytes: copier.bytes };
  });
  return { ...counts, unchanged: isUntouched(job.view) };
}

function checkDestination(job: CopyJob, sources: number): void {
  if (sources <= 1 || job.destination.endsWith("/")) return;
  throw new LamellaError(
    "invalid_argument",
    "DESTINATION",
    `several sources need a directory as destination: ${JSON.stringify(job.destination)} does not end with /`,
    { hint: `write ${job.destination}/` },
  );
}

class Copier {
  entries = 0;
  bytes = 0;
  readonly #root: number;
  readonly #job: CopyJob;
  readonly #owner: { readonly uid: number; readonly gid: number };
  readonly #checkpoint: () => void;
  readonly #files = new FileCopier();
  readonly #idMaps = readIdMaps();

  constructor(root: number, job: CopyJob, owner: { uid: number; gid: number }, checkpoint: () => void) {
    this.#root = root;
    this.#job = job;
    this.#owner = owner;
    this.#checkpoint = checkpoint;
  }

  async source(tree: SourceTree, match: Match): Promise<void> {
    if ((match.stat.mode & S_IFMT) === S_IFDIR) {
      this.#directory(tree, match);
      return;
    }
    for (const entry of tree.entries(match)) {
      if (this.#job.unpack && (match.stat.mode & S_IFMT) === S_IFREG && (await this.#unpacked(entry))) return;
      this.#place(match.name, (directory, name) => this.#object(entry, directory, name));
    }
  }

  /** A file whose content the Dockerfile holds. */
  inline(name: ByteString, content: Uint8Array): void {
    this.#place(name, (directory, target) => {
      using file = new sys.OwnedFd(sys.openat(directory, target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
      sys.writeAll(file.fd, content);
      this.bytes += content.length;
      sys.lchownat(directory, target, this.#owner.uid, this.#owner.gid);
      raw.fchmod(file.fd, this.#job.mode ?? 0o644);
      this.entries++;
    });
  }

  async #unpacked(entry: SourceEntry): Promise<boolean> {
    using file = new sys.OwnedFd(sys.openat(entry.directory, entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    const { archiveIn, extractArchive } = await import("./extract-archive.ts");
    const archive = await archiveIn(file.fd);
    if (archive === undefined) return false;
    using target = makeDirectories(this.#root, bytesOfText(this.#job.destination), { mode: 0o755, uid: 0, gid: 0 });
    const { entries, bytes } = await extractArchive(archive, target.fd, this.#checkpoint);
    this.entries += entries;
    this.bytes += bytes;
    return true;
  }

  /** Finds where a file called `name` goes, clears the place and lets `write` fill it. */
  #place(name: ByteString, write: (directory: number, name: ByteString) => void): void {
    const destination = bytesOfText(this.#job.destination);
    using found = locate(this.#root, destination);
    const isDirectory = found.stat !== undefined && (found.stat.mode & S_IFMT) === S_IFDIR;
    const into = isDirectory || destination.endsWith("/");
    const path = into ? `${found.path === "/" ? "" : found.path}/${name}` : found.path;
    const cut = path.lastIndexOf("/");
    using directory = makeDirectories(this.#root, path.slice(0, cut) || "/", { mode: 0o755, ...this.#owner });
    const last = path.slice(cut + 1);
    // A link that is the destination itself leads on, as `cp` does; in a directory it is followed as well.
    using target = locate(this.#root, path);
    if (target.stat !== undefined && target.path !== path) {
      const real = target.path.slice(target.path.lastIndexOf("/") + 1);
      removeTreeAt(target.directory, real);
      write(target.directory, real);
      return;
    }
    if (sys.statIfExists(directory.fd, last) !== undefined) removeTreeAt(directory.fd, last);
    write(directory.fd, last);
  }

  #directory(tree: SourceTree, match: Match): void {
    const destination = bytesOfText(this.#job.destination);
    const parent = destination.replace(/\/+$/, "").replace(/[^/]*$/, "") || "/";
    makeDirectories(this.#root, parent, { mode: 0o755, uid: 0, gid: 0 })[Symbol.dispose]();
    const mode = this.#job.mode ?? 0o755;
    using target = makeDirectories(this.#root, destination, { mode, ...this.#owner });
    // Directories get their times after their content.
    const times: { readonly path: ByteString; readonly stat: sys.Stat }[] = [];
    const linked = new Map<string, ByteString>();
    const open = { path: "", fd: target.fd, owned: undefined as sys.OwnedFd | undefined };
    try {
      for (const entry of tree.entries(match)) {
        this.#checkpoint();
        if (entry.path === "") continue;
        const cut = entry.path.lastIndexOf("/");
        const above = cut < 0 ? "" : entry.path.slice(0, cut);
        if (above !== open.path) {
          open.owned?.[Symbol.dispose]();
          open.owned = above === "" ? undefined : walkDown(target.fd, above);
          open.fd = open.owned?.fd ?? target.fd;
          open.path = above;
        }
        const name = entry.path.slice(cut + 1);
        if (this.#linkToFirst(entry, linked, target.fd, open.fd, name)) continue;
        this.#object(entry, open.fd, name);
        if ((entry.stat.mode & S_IFMT) === S_IFDIR && !entry.implied)
          times.push({ path: entry.path, stat: entry.stat });
      }
    } finally {
      open.owned?.[Symbol.dispose]();
    }
    for (const { path, stat } of times.reverse()) {
      using directory = walkDown(target.fd, path);
      this.#setTimes(directory.fd, ".", stat);
    }
  }

  /** The second and further names of one file become hard links to the first. */
  #linkToFirst(
    entry: SourceEntry,
    linked: Map<string, ByteString>,
    top: number,
    directory: number,
    name: ByteString,
  ): boolean {
    if ((entry.stat.mode & S_IFMT) !== S_IFREG || entry.stat.nlink < 2) return false;
    const key = sys.inodeKey(entry.stat);
    const first = linked.get(key);
    if (first === undefined) {
      linked.set(key, entry.path);
      return false;
    }
    if (sys.statIfExists(directory, name) !== undefined) removeTreeAt(directory, name);
    const cut = first.lastIndexOf("/");
    using from = cut < 0 ? openDirectory(top, ".") : walkDown(top, first.slice(0, cut));
    sys.linkat(from.fd, first.slice(cut + 1), directory, name);
    this.entries++;
    return true;
  }

  /** Copies one object without what is below it. */
  #object(entry: SourceEntry, directory: number, name: ByteString): void {
    const { stat } = entry;
    const type = stat.mode & S_IFMT;
    if (type === S_IFSOCK) return;
    this.entries++;
    const existing = sys.statIfExists(directory, name);
    const merges = type === S_IFDIR && existing !== undefined && (existing.mode & S_IFMT) === S_IFDIR;
    if (existing !== undefined && !merges) removeTreeAt(directory, name);
    if (type === S_IFDIR) {
      if (!merges) sys.mkdirat(directory, name, 0o700);
    } else if (type === S_IFLNK) sys.symlinkat(sys.readlinkat(entry.directory, entry.name), directory, name);
    else if (type === S_IFREG) this.#content(entry, directory, name);
    else sys.mknodat(directory, name, type | 0o600, stat.rdevMajor, stat.rdevMinor);
    this.#attributes(entry, directory, name);
    if (type !== S_IFDIR) this.#setTimes(directory, name, stat);
  }

  #attributes(entry: SourceEntry, directory: number, name: ByteString): void {
    const { keepOwners, mode } = this.#job;
    const { stat } = entry;
    const type = stat.mode & S_IFMT;
    const sourceMode = entry.implied ? 0o755 : stat.mode & 0o7777;
    if (keepOwners) {
      requireMapped(this.#idMaps, stat.uid, stat.gid, textOfBytes(entry.name));
      sys.lchownat(directory, name, stat.uid, stat.gid);
      if (type !== S_IFLNK) sys.lchmodat(directory, name, mode ?? sourceMode);
      // After chown, which takes it away. What may not be set here (another user namespace's) is left out.
      const capability = type === S_IFREG ? sys.lgetxattrat(entry.directory, entry.name, XATTR_CAPABILITY) : undefined;
      if (capability !== undefined) raw.lsetxattrat(directory, name, XATTR_CAPABILITY, capability);
      return;
    }
    if (type !== S_IFLNK) sys.lchmodat(directory, name, sourceMode);
    sys.lchownat(directory, name, this.#owner.uid, this.#owner.gid);
    if (mode !== undefined && type !== S_IFLNK) sys.lchmodat(directory, name, mode);
  }

  #content(entry: SourceEntry, directory: number, name: ByteString): void {
    using from = new sys.OwnedFd(sys.openat(entry.directory, entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    const stat = sys.fstat(from.fd);
    if ((stat.mode & S_IFMT) !== S_IFREG) {
      throw new LamellaError("aborted", "TREE_CHANGED", `${textOfBytes(entry.name)} was replaced while it was copied`);
    }
    using to = new sys.OwnedFd(sys.openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
    this.#files.copy(from.fd, to.fd, stat.size, stat.blocks);
    this.bytes += stat.size;
  }

  #setTimes(directory: number, name: ByteString, stat: sys.Stat): void {
    const mtimeSec = Math.min(stat.mtimeSec, this.#job.clampMtimeSec ?? Number.POSITIVE_INFINITY);
    sys.utimensat(directory, name, { atimeSec: mtimeSec, atimeNsec: 0, mtimeSec, mtimeNsec: 0 });
  }
}

/** Opens a directory below `top` without following a link. */
function walkDown(top: number, path: ByteString): sys.OwnedFd {
  let directory = openDirectory(top, ".");
  for (const name of path.split("/")) {
    const next = openDirectory(directory.fd, name);
    directory[Symbol.dispose]();
    directory = next;
  }
  return directory;
}
