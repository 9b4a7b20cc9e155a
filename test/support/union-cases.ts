/**
 * Cases for a union file system, by kind: every object that a name can stand for, times everything that can be done to it,
 * twice; and every pair of objects, times what moves one to the other. What has to come of them is not written here: the
 * kernel's overlayfs says it (../mount/union-cases.test.ts).
 */
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import { removeTree } from "./random-operations.ts";

/** Something done in the directory of a case to the objects `x` and `y` of it; what came of it, in numbers and errnos. */
export type Deed = (at: number) => readonly number[];

interface Kind {
  /** Makes the object under a name in the lower layer. */
  readonly plant: (at: number, name: string) => void;
  /** Done through the mount before the case begins. */
  readonly prepare?: (at: number, name: string) => void;
}

export interface Case {
  readonly name: string;
  /** Fills the case's directory of the lower layer. */
  readonly plant: (at: number) => void;
  readonly prepare: (at: number) => void;
  readonly deeds: readonly Deed[];
  /** Done as a user without privileges. */
  readonly asUser: boolean;
}

function put(at: number, name: string, text = "content", mode = 0o644): void {
  const fd = raw.openat(at, name, C.O_WRONLY | C.O_CREAT, 0o600);
  raw.write(fd, Buffer.from(text));
  raw.fchmod(fd, mode);
  raw.close(fd);
}

function fill(at: number, name: string): void {
  raw.mkdirat(at, name, 0o777);
  raw.fchmodat(at, name, 0o777);
  put(at, `${name}/file`);
  raw.mkdirat(at, `${name}/sub`, 0o755);
  put(at, `${name}/sub/file`);
}

function emptyDirectory(at: number, name: string): void {
  raw.mkdirat(at, name, 0o777);
  raw.fchmodat(at, name, 0o777);
}

const nothing = (): void => {};

const kinds: Readonly<Record<string, Kind>> = {
  "a missing name": { plant: nothing },
  "a file": { plant: (at, name) => put(at, name) },
  "a file of all": { plant: (at, name) => put(at, name, "all", 0o666) },
  "a secret file": { plant: (at, name) => put(at, name, "secret", 0o600) },
  "a program": { plant: (at, name) => put(at, name, "run", 0o6755) },
  "a file of two names": {
    plant: (at, name) => {
      put(at, name);
      raw.linkat(at, name, at, `${name}-too`);
    },
  },
  "an empty directory": { plant: emptyDirectory },
  "a directory": { plant: fill },
  "a link to a file": {
    plant: (at, name) => {
      put(at, `${name}-file`, "linked", 0o666);
      raw.symlinkat(`${name}-file`, at, name);
    },
  },
  "a link to a link": {
    plant: (at, name) => {
      put(at, `${name}-file`, "linked", 0o666);
      raw.symlinkat(`${name}-file`, at, `${name}-link`);
      raw.symlinkat(`${name}-link`, at, name);
    },
  },
  "a link to a directory": {
    plant: (at, name) => {
      fill(at, `${name}-directory`);
      raw.symlinkat(`${name}-directory`, at, name);
    },
  },
  "a link to nothing": { plant: (at, name) => void raw.symlinkat(`${name}-nothing`, at, name) },
  "a pipe": { plant: (at, name) => void raw.mknodat(at, name, C.S_IFIFO | 0o644, 0, 0) },
  "a device": { plant: (at, name) => void raw.mknodat(at, name, C.S_IFCHR | 0o666, 1, 3) },
  "a removed file": { plant: (at, name) => put(at, name), prepare: (at, name) => void raw.unlinkat(at, name) },
  "a removed directory": { plant: fill, prepare: (at, name) => void removeTree(at, name) },
  "a new file": { plant: nothing, prepare: (at, name) => put(at, name, "new") },
  "a new directory": { plant: nothing, prepare: fill },
  "a directory made anew": {
    plant: fill,
    prepare: (at, name) => {
      removeTree(at, name);
      emptyDirectory(at, name);
    },
  },
  "a file copied up": {
    plant: (at, name) => put(at, name, "below", 0o666),
    prepare: (at, name) => void raw.fchmodat(at, name, 0o646),
  },
  "a directory moved": {
    plant: (at, name) => fill(at, `${name}-before`),
    // Where redirects are off this changes nothing.
    prepare: (at, name) => void raw.renameat2(at, `${name}-before`, at, name),
  },
};

const accesses = { reading: C.O_RDONLY, writing: C.O_WRONLY, both: C.O_RDWR };
const further = {
  "": 0,
  ", appending": C.O_APPEND,
  ", truncating": C.O_TRUNC,
  ", creating": C.O_CREAT,
  ", creating exclusively": C.O_CREAT | C.O_EXCL,
  ", creating and truncating": C.O_CREAT | C.O_TRUNC,
  ", creating exclusively and truncating": C.O_CREAT | C.O_EXCL | C.O_TRUNC,
  ", as a directory": C.O_DIRECTORY,
  ", not following": C.O_NOFOLLOW,
};

/** Opens, writes, and reads all back: the answers, and what was read, as numbers. */
function opening(path: string, flags: number): Deed {
  return (at) => {
    const fd = raw.openat(at, path, flags | C.O_NONBLOCK, 0o644);
    if (fd < 0) return [fd];
    const answers = [0];
    if ((flags & 3) !== C.O_RDONLY) answers.push(raw.write(fd, Buffer.from("!")));
    const read = Buffer.alloc(32);
    if ((flags & 3) !== C.O_WRONLY) answers.push(raw.pread64(fd, read, read.length, 0), ...read);
    raw.close(fd);
    return answers;
  };
}

function truncating(size: number): Deed {
  return (at) => {
    const fd = raw.openat(at, "x", C.O_WRONLY | C.O_NONBLOCK);
    if (fd < 0) return [fd];
    const answer = raw.ftruncate(fd, size);
    raw.close(fd);
    return [answer];
  };
}

function listing(path: string): Deed {
  return (at) => {
    const fd = raw.openat(at, path, C.O_RDONLY | C.O_DIRECTORY);
    if (fd < 0) return [fd];
    const entries: raw.DirEntry[] = [];
    while (raw.getdents64(fd, entries) > 0);
    raw.close(fd);
    return entries.map(({ name, type }) => type * 1000 + name.length).sort((a, b) => a - b);
  };
}

const one =
  (call: (at: number) => number): Deed =>
  (at) => [Math.min(0, call(at))];

/** What can be done to one object, or within it. */
const deeds: Readonly<Record<string, Deed>> = {
  list: listing("x"),
  mkdir: one((at) => raw.mkdirat(at, "x", 0o755)),
  "mkdir with a slash": one((at) => raw.mkdirat(at, "x/", 0o755)),
  "mkdir within": one((at) => raw.mkdirat(at, "x/made", 0o755)),
  rmdir: one((at) => raw.unlinkat(at, "x", C.AT_REMOVEDIR)),
  "rmdir with a slash": one((at) => raw.unlinkat(at, "x/", C.AT_REMOVEDIR)),
  "rmdir within": one((at) => raw.unlinkat(at, "x/sub", C.AT_REMOVEDIR)),
  unlink: one((at) => raw.unlinkat(at, "x")),
  "unlink with a slash": one((at) => raw.unlinkat(at, "x/")),
  "unlink within": one((at) => raw.unlinkat(at, "x/file")),
  "remove all": one((at) => removeTree(at, "x")),
  readlink: one((at) => (typeof raw.readlinkat(at, "x") === "number" ? (raw.readlinkat(at, "x") as number) : 0)),
  "truncate to nothing": truncating(0),
  "truncate to less": truncating(2),
  "truncate to more": truncating(10_000),
  chmod: one((at) => raw.fchmodat(at, "x", 0o640)),
  chown: one((at) => raw.fchownat(at, "x", 12, 34, C.AT_SYMLINK_NOFOLLOW)),
  touch: one((at) => raw.utimensat(at, "x", 1, 2, 3, 4)),
  "set an attribute": one((at) => raw.lsetxattrat(at, "x", "user.some", Buffer.from("value"))),
  "remove an attribute": one((at) => raw.lremovexattrat(at, "x", "user.some")),
  "make a symbolic link": one((at) => raw.symlinkat("target", at, "x")),
  "make a pipe": one((at) => raw.mknodat(at, "x", C.S_IFIFO | 0o644, 0, 0)),
  "create within": opening("x/made", C.O_RDWR | C.O_CREAT),
  "write within": opening("x/file", C.O_RDWR),
  "write further within": opening("x/sub/file", C.O_RDWR),
  "through a file": opening("x/file/not", C.O_RDONLY),
  "rename to itself": one((at) => raw.renameat2(at, "x", at, "x")),
  "rename away": one((at) => raw.renameat2(at, "x", at, "z")),
  "rename into itself": one((at) => raw.renameat2(at, "x", at, "x/sub/x")),
  "link to itself": one((at) => raw.linkat(at, "x", at, "x")),
};

/** What comes after, of everything the most telling. */
const afterwards = ["mkdir", "rmdir", "unlink", "remove all", "make a pipe", "create within", "rename away"];

/** What takes an object to the name of another. */
const moves: Readonly<Record<string, (at: number, to: string) => number>> = {
  "rename to": (at, to) => raw.renameat2(at, "x", at, to),
  "rename, if missing, to": (at, to) => raw.renameat2(at, "x", at, to, C.RENAME_NOREPLACE),
  "exchange with": (at, to) => raw.renameat2(at, "x", at, to, C.RENAME_EXCHANGE),
  "link to": (at, to) => raw.linkat(at, "x", at, to),
};

/** Where the other object is. */
const places = { "": "y", " in a lower directory": "low/y" };

function* openCases(asUser: boolean): Generator<Case> {
  for (const [kind, { plant, prepare }] of Object.entries(kinds))
    for (const [access, flag] of Object.entries(accesses))
      for (const [more, flags] of Object.entries(further))
        for (const path of ["x", "x/"]) {
          const deed = opening(path, flag | flags);
          yield {
            name: `${kind}: open ${path} for ${access}${more}, twice, and read`,
            plant: (at) => plant(at, "x"),
            prepare: (at) => prepare?.(at, "x"),
            deeds: [deed, deed, opening("x", C.O_RDONLY)],
            asUser,
          };
        }
}

function* deedCases(asUser: boolean): Generator<Case> {
  for (const [kind, { plant, prepare }] of Object.entries(kinds))
    for (const [first, deed] of Object.entries(deeds))
      for (const then of asUser ? afterwards.slice(0, 1) : afterwards)
        yield {
          name: `${kind}: ${first}, then ${then}`,
          plant: (at) => plant(at, "x"),
          prepare: (at) => prepare?.(at, "x"),
          deeds: [deed, deeds[then] ?? deed, listing(".")],
          asUser,
        };
}

function* moveCases(): Generator<Case> {
  for (const [kind, from] of Object.entries(kinds))
    for (const [other, to] of Object.entries(kinds))
      for (const [verb, move] of Object.entries(moves))
        for (const [where, name] of Object.entries(places))
          yield {
            name: `${kind}: ${verb} ${other}${where}, and again`,
            plant: (at) => {
              raw.mkdirat(at, "low", 0o755);
              from.plant(at, "x");
              to.plant(at, name);
            },
            prepare: (at) => {
              from.prepare?.(at, "x");
              to.prepare?.(at, name);
            },
            deeds: [one((at) => move(at, name)), one((at) => move(at, name)), listing("."), listing("low")],
            asUser: false,
          };
}

/** All of them, or what depends on redirects alone: names that change. */
export function unionCases(which: "all" | "names"): readonly Case[] {
  const names = [...deedCases(false), ...moveCases()];
  return which === "names" ? names : [...openCases(false), ...names, ...openCases(true), ...deedCases(true)];
}
