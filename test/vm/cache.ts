/**
 * What is costly to make and stays true for long: entries of `.cache/vm` (or of LAMELLA_VM_CACHE), each a directory named
 * `FAMILY-KEY`, where the key says all that went in. An entry is made beside its place and renamed into it, so one that is
 * there is whole; making one removes the family's older ones, and what runs that were killed have left.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

const home = resolve(process.env.LAMELLA_VM_CACHE ?? join(import.meta.dirname, "../../.cache/vm"));

/** The directory of the cache itself, made when it is not there. */
export function cacheHome(): string {
  mkdirSync(home, { recursive: true });
  return home;
}

/** A short name for all of these parts together. */
export function keyOf(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex").slice(0, 16);
}

/** The path of an entry, which `make` fills when there is none. */
export function cached(family: string, key: string, make: (directory: string) => void): string {
  const path = join(cacheHome(), `${family}-${key}`);
  if (existsSync(path)) return path;
  const unfinished = `${path}.new-${process.pid}`;
  mkdirSync(unfinished);
  try {
    make(unfinished);
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  for (const name of readdirSync(home)) {
    if (!name.startsWith(`${family}-`) || join(home, name) === path) continue;
    const maker = /\.new-(\d+)$/.exec(name)?.[1];
    if (maker === undefined || !existsSync(`/proc/${maker}`))
      rmSync(join(home, name), { recursive: true, force: true });
  }
  return path;
}
