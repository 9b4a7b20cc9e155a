/**
 * How the collectors see the host: files below a prefix, `/` on a real host and a made tree in tests. What is not there is
 * `undefined` and nothing to speak of; what is there and may not be read is remembered in `unseen`.
 */
import { readdirSync, readFileSync, readlinkSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import type { Unseen } from "./facts.ts";

/** Codes for "there is no such thing". */
const absent: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENOTDIR", "EINVAL"]);

export class HostView {
  /** Put before every path. */
  readonly prefix: string;
  readonly #unseen = new Map<string, string>();

  constructor(prefix = "/") {
    this.prefix = prefix;
  }

  /** Where a path of the host lies for this process. */
  at(path: string): string {
    return this.prefix === "/" ? path : join(this.prefix, path);
  }

  /** The content of a small file as text. */
  text(path: string): string | undefined {
    return this.#see(path, (at) => readFileSync(at, "utf8"));
  }

  bytes(path: string): Buffer | undefined {
    return this.#see(path, (at) => readFileSync(at));
  }

  /** The names in a directory, sorted. */
  names(path: string): string[] | undefined {
    return this.#see(path, (at) => readdirSync(at).sort());
  }

  /** Follows links. */
  stat(path: string): Stats | undefined {
    return this.#see(path, (at) => statSync(at));
  }

  link(path: string): string | undefined {
    return this.#see(path, (at) => readlinkSync(at));
  }

  exists(path: string): boolean {
    return this.stat(path) !== undefined;
  }

  /** Remembers something that could not be seen. */
  missed(what: string, why: string): void {
    if (!this.#unseen.has(what)) this.#unseen.set(what, why);
  }

  get unseen(): Unseen[] {
    return [...this.#unseen].map(([what, why]) => ({ what, why }));
  }

  #see<T>(path: string, look: (at: string) => T): T | undefined {
    try {
      return look(this.at(path));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (!absent.has(code)) this.missed(path, reasonOf(code));
      return undefined;
    }
  }
}

function reasonOf(code: string | undefined): string {
  return code === "EACCES" || code === "EPERM" ? "only root may read it" : `reading it failed (${code ?? "unknown"})`;
}
