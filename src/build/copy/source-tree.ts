/**
 * The tree a COPY takes its sources from: a build context without what its ignore file names, or another stage's tree.
 *
 * Nothing outside it is read. Links in a source's own path are resolved inside the tree; links below a copied directory are
 * copied as links. Answers come in byte order, so that one tree always gives one sequence.
 */

import { compileGlob, hasGlob, unescapeGlob } from "../../dockerfile/glob.ts";
import { type IgnoreMatcher, parseIgnore } from "../../dockerfile/ignore.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { type ByteString, bytesOfText, compareBytes, textOfBytes } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY, S_IFDIR, S_IFMT } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { mountRoot } from "../root-mount.ts";
import { locate } from "../rooted-path.ts";
import type { ThreadNamespaces } from "../runtime/thread-namespaces.ts";
import type { CopySources } from "./copy-job.ts";

/** A source an instruction named. */
export interface Match {
  /** Without links, relative to the tree's root; "" is the root. */
  readonly path: ByteString;
  /** Name a file gets in a directory: the last component as written. */
  readonly name: ByteString;
  readonly stat: sys.Stat;
}

/** One object of a match. The descriptor is valid until the next one is asked for. */
export interface SourceEntry {
  /** Relative to the match; "" is the match itself. */
  readonly path: ByteString;
  readonly stat: sys.Stat;
  /** The directory it is in, and its name there. */
  readonly directory: number;
  readonly name: ByteString;
  /** A directory that is ignored itself and comes only because of what is in it: its attributes are not the source's. */
  readonly implied: boolean;
}

export class SourceTree implements Disposable {
  readonly #stack = new Disposables();
  readonly #root: sys.OwnedFd;
  readonly #ignores: readonly IgnoreMatcher[];
  readonly #sources: CopySources;

  /** Opens the tree; a stage's is mounted, so the calling thread must be in a step's namespace. */
  constructor(sources: CopySources, namespaces: ThreadNamespaces) {
    this.#sources = sources;
    const { from } = sources;
    try {
      let path: ByteString;
      if (from.kind === "context") path = from.path;
      else {
        path = namespaces.directory("from");
        this.#stack.use(mountRoot(from.view, path));
      }
      this.#root = this.#stack.use(sys.open(path, O_PATH | O_DIRECTORY));
    } catch (error) {
      this.#stack[Symbol.dispose]();
      throw error;
    }
    const ignores: IgnoreMatcher[] = [];
    if (from.kind === "context" && from.ignore !== "")
      ignores.push(parseIgnore(from.ignore, { fileName: from.ignoreName }));
    if (sources.exclude.length > 0) ignores.push(parseIgnore(sources.exclude.join("\n"), { fileName: "--exclude" }));
    this.#ignores = ignores;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  /** All sources of all patterns, in their order. Errors: not_found for a pattern that matches nothing. */
  find(): Match[] {
    return this.#sources.patterns.flatMap((pattern) => {
      const found = hasGlob(pattern) ? this.#findGlob(pattern) : this.#findOne(pattern);
      if (found.length === 0) throw this.#notFound(pattern);
      return found;
    });
  }

  /** A match and all below it, directories before their content, ignored ones left out. */
  *entries(match: Match): Generator<SourceEntry> {
    using place = locate(this.#root.fd, match.path, { followLast: false });
    const name = place.name ?? ".";
    const entry = { path: "", stat: match.stat, directory: place.directory, name, implied: false };
    yield entry;
    if ((match.stat.mode & S_IFMT) === S_IFDIR) yield* this.#below(place.directory, name, match.path, "", []);
  }

  *#below(
    parent: number,
    name: ByteString,
    treePath: ByteString,
    path: ByteString,
    pending: SourceEntry[],
  ): Generator<SourceEntry> {
    using directory = new sys.OwnedFd(sys.openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const names = sys.readdir(directory.fd).map((entry) => entry.name);
    for (const child of names.sort(compareBytes)) {
      const stat = sys.statIfExists(directory.fd, child);
      if (stat === undefined) continue;
      const childTreePath = treePath === "" ? child : `${treePath}/${child}`;
      const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
      const verdict = this.#judge(childTreePath, isDirectory);
      const childPath = path === "" ? child : `${path}/${child}`;
      const implied = verdict === "perhaps";
      const entry = { path: childPath, stat, directory: directory.fd, name: child, implied };
      if (verdict === "out") continue;
      if (verdict === "in") {
        // Directories that are ignored themselves come only when something in them does not.
        yield* pending.splice(0);
        yield entry;
        if (isDirectory) yield* this.#below(directory.fd, child, childTreePath, entry.path, []);
      } else {
        const waiting = [...pending, entry];
        yield* this.#below(directory.fd, child, childTreePath, entry.path, waiting);
        if (waiting.length === 0) pending.length = 0;
      }
    }
  }

  #judge(path: ByteString, isDirectory: boolean): "in" | "out" | "perhaps" {
    let perhaps = false;
    for (const ignore of this.#ignores) {
      if (path === "" || !ignore.matches(path)) continue;
      if (!isDirectory || !ignore.mayContainExceptions(path)) return "out";
      perhaps = true;
    }
    return perhaps ? "perhaps" : "in";
  }

  #findOne(pattern: string): Match[] {
    const written = bytesOfText(unescapeGlob(pattern));
    try {
      using found = locate(this.#root.fd, written);
      const path = found.path.slice(1);
      if (found.stat === undefined) return [];
      if (this.#judge(path, (found.stat.mode & S_IFMT) === S_IFDIR) === "out") return [];
      return [{ path, name: lastComponent(written), stat: found.stat }];
    } catch (error) {
      if (hasCode(error, "ENOTDIR")) return [];
      throw error;
    }
  }

  /** Component by component, since no wildcard matches a slash; links to directories are not followed. */
  #findGlob(pattern: string): Match[] {
    const components = pattern.split("/").filter((part) => part !== "" && part !== ".");
    let found: Match[] = [{ path: "", name: "", stat: sys.fstat(this.#root.fd) }];
    for (const component of components) {
      const accepts = compileGlob(component);
      found = found.flatMap((parent) => this.#children(parent).filter(({ name }) => accepts(name)));
    }
    return found.filter(({ path, stat }) => this.#judge(path, (stat.mode & S_IFMT) === S_IFDIR) !== "out");
  }

  #children(parent: Match): Match[] {
    if ((parent.stat.mode & S_IFMT) !== S_IFDIR || this.#judge(parent.path, true) === "out") return [];
    using place = locate(this.#root.fd, parent.path, { followLast: false });
    using directory = new sys.OwnedFd(
      sys.openat(place.directory, place.name ?? ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
    );
    const children: Match[] = [];
    for (const { name } of sys.readdir(directory.fd)) {
      const stat = sys.statIfExists(directory.fd, name);
      if (stat === undefined) continue;
      const path = parent.path === "" ? name : `${parent.path}/${name}`;
      children.push({ ...this.#followed(path, stat), name });
    }
    return children.sort((a, b) => compareBytes(a.name, b.name));
  }

  /** A link that a glob matched stands for what it leads to. */
  #followed(path: ByteString, stat: sys.Stat): { readonly path: ByteString; readonly stat: sys.Stat } {
    if ((stat.mode & S_IFMT) !== 0o120000) return { path, stat };
    try {
      using found = locate(this.#root.fd, path);
      return found.stat === undefined ? { path, stat } : { path: found.path.slice(1), stat: found.stat };
    } catch {
      // A loop of links, or a file on the way: copying it tells.
      return { path, stat };
    }
  }

  #notFound(pattern: string): LamellaError {
    const { from } = this.#sources;
    const where = from.kind === "context" ? "the build context" : from.name;
    let ignored = false;
    try {
      using found = locate(this.#root.fd, bytesOfText(unescapeGlob(pattern)));
      ignored = found.stat !== undefined;
    } catch {
      // Not even a path: not found it is.
    }
    return new LamellaError(
      "not_found",
      "SOURCE_NOT_FOUND",
      `${JSON.stringify(pattern)} ${ignored ? "is excluded from" : "not found in"} ${where}`,
      {
        hint: ignored
          ? `see ${from.kind === "context" ? from.ignoreName : "--exclude"}`
          : from.kind === "context"
            ? `paths are relative to ${textOfBytes(from.path)}`
            : undefined,
      },
    );
  }
}

function lastComponent(path: ByteString): ByteString {
  return path.split("/").findLast((part) => part !== "" && part !== ".") ?? "";
}
