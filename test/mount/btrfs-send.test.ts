/**
 * What a send stream says of two subvolumes: random changes to a snapshot, sent by the kernel, give the same stream of changes
 * as comparing both trees whole; and streams that are broken are refused.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { sendCandidates } from "../../src/diff/btrfs-candidates.ts";
import { SendStreamReader } from "../../src/diff/btrfs-stream.ts";
import { takeClockStamp } from "../../src/diff/clock-stamp.ts";
import type { CandidatesHint, TreesHint } from "../../src/diff/source.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import { removeSubvolume } from "../../src/drivers/btrfs/subvolumes.ts";
import { isLamellaError } from "../../src/errors/lamella-error.ts";
import { createSnapshot, createSubvolume, setSubvolumeReadOnly } from "../../src/sys/btrfs.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { sh, short } from "../support/overlay-lab.ts";
import { operationSequence, performAll, plantedTree } from "../support/random-operations.ts";

const place = placeOf("btrfs", { size: "1G" });

/** Subvolumes in one directory: the first is made, each further one a snapshot of the one before. */
class Chain {
  readonly directory = directoryIn(place, "chain");
  readonly #folder = sys.open(this.directory, C.O_RDONLY | C.O_DIRECTORY);
  #length = 0;

  /** Adds one, changes it, and makes it read-only. */
  async add(change: (root: string) => void): Promise<void> {
    const name = `s${this.#length}`;
    if (this.#length === 0) await createSubvolume(this.#folder.fd, name);
    else {
      using source = sys.open(this.at(this.#length - 1), C.O_RDONLY | C.O_DIRECTORY);
      await createSnapshot(this.#folder.fd, name, { fd: source.fd, readOnly: false });
    }
    change(`${this.directory}/${name}`);
    using made = sys.open(`${this.directory}/${name}`, C.O_RDONLY | C.O_DIRECTORY);
    await setSubvolumeReadOnly(made.fd, true);
    this.#length++;
  }

  at(index: number): string {
    return `${this.directory}/s${index}`;
  }

  /** The changes of the last to the one before, in short; `doubt`: why the hint did not hold. */
  diff(hint: TreesHint | undefined): { changes: string[]; doubt: string | undefined; visited: number } {
    const [tree, parent] = [this.at(this.#length - 1), this.at(this.#length - 2)];
    const differ = new TreesDiffer({ kind: "trees", parent, tree, hint }, { threads: 1 });
    const changes = [...differ.changes()].map(short);
    return { changes, doubt: differ.doubt, visited: differ.visited };
  }

  /** The names that may differ between the last and the one before. */
  candidates(): CandidatesHint {
    using tree = sys.open(this.at(this.#length - 1), C.O_RDONLY | C.O_DIRECTORY);
    using parent = sys.open(this.at(this.#length - 2), C.O_RDONLY | C.O_DIRECTORY);
    const found = sendCandidates({ treeFd: tree.fd, parentFd: parent.fd }, () => undefined);
    assert.ok(typeof found !== "string", String(found));
    return { ...found, paths: [...found.paths].sort(), subtrees: [...found.subtrees].sort() };
  }

  /** The changes by send, which must be those of comparing both trees. */
  same(): string[] {
    const { changes, doubt } = this.diff(send);
    assert.equal(doubt, undefined);
    assert.deepEqual(changes, this.diff(undefined).changes);
    return changes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#length > 0) await removeSubvolume(this.#folder.fd, `s${--this.#length}`);
    this.#folder[Symbol.dispose]();
  }
}

const send: TreesHint = { kind: "btrfs-send", otherwise: undefined };

/** A chain of two: `fill` makes the first, `change` changes its snapshot. */
async function pair(fill: (root: string) => void, change: (root: string) => void): Promise<Chain> {
  const chain = new Chain();
  await chain.add(fill);
  await chain.add(change);
  return chain;
}

describe("btrfs send", { skip: place.skip ?? false }, () => {
  it("names what random operations have changed, and nothing is missing", async () => {
    const property = fc.asyncProperty(operationSequence, async (layers) => {
      await using chain = new Chain();
      await chain.add((root) => sh(plantedTree, root));
      for (const operations of layers) {
        await chain.add((root) => performAll(root, operations));
        chain.same();
      }
    });
    await fc.assert(property, { numRuns: 60, verbose: 1 });
  });

  it("names little of what did not change", async () => {
    await using chain = await pair(
      (root) => {
        for (let i = 0; i < 30; i++) {
          mkdirSync(`${root}/d${i}`);
          for (let j = 0; j < 50; j++) writeFileSync(`${root}/d${i}/f${j}`, `${i} ${j}`);
        }
      },
      (root) => {
        writeFileSync(`${root}/d3/f7`, "changed");
        rmSync(`${root}/d4/f8`);
        writeFileSync(`${root}/d5/new`, "new");
        chmodSync(`${root}/d6/f9`, 0o600);
      },
    );
    const { paths, subtrees } = chain.candidates();
    assert.deepEqual(paths, ["d3/f7", "d4", "d4/f8", "d5", "d6/f9"]);
    assert.deepEqual(subtrees, ["d5/new"]);
    assert.deepEqual(chain.same(), ["M d3/", "M d3/f7", "M d4/", "D d4/f8", "M d5/", "A d5/new", "M d6/", "M d6/f9"]);
    assert.ok(chain.diff(send).visited < 20);
  });

  it("takes a moved directory for changed in all that is below it, a new one where it was for another", async () => {
    await using chain = await pair(
      (root) => sh("mkdir -p a/x a/y b; echo 1 > a/x/f; echo 2 > a/y/g; echo 3 > b/h; ln a/y/g b/link", root),
      (root) => sh("mv a c; mkdir a; mv c/x a/x; mv b c/b; echo 4 > c/b/h", root),
    );
    assert.deepEqual(chain.candidates(), {
      kind: "candidates",
      paths: ["b", "b/h"],
      subtrees: ["a", "c"],
    });
    chain.same();
  });

  it("finds all names of an inode, however many and however long", async () => {
    const directory = (n: number): string => `${"d".repeat(200)}${n}`;
    const names = Array.from({ length: 600 }, (_, i) => join(directory(i % 3), `${"n".repeat(240)}${i}`));
    await using chain = await pair(
      (root) => {
        for (const n of [0, 1, 2]) mkdirSync(join(root, directory(n)));
        writeFileSync(join(root, names[0] ?? ""), "first");
        for (const name of names.slice(1)) linkSync(join(root, names[0] ?? ""), join(root, name));
      },
      (root) => writeFileSync(join(root, names[300] ?? ""), "other"),
    );
    assert.deepEqual(chain.candidates().paths, names.toSorted());
    assert.equal(chain.same().filter((change) => change.includes(" = ")).length, 599);
  });

  it("follows links from name to name through both trees", async () => {
    await using chain = await pair(
      (root) => sh("mkdir d; echo 1 > d/a; ln d/a b; echo 2 > c; ln c d/e; echo 3 > f", root),
      (root) => sh("ln -f b c; mv d g; ln f g/h", root),
    );
    assert.deepEqual(chain.candidates(), {
      kind: "candidates",
      paths: ["b", "d", "d/a", "d/e", "f"],
      subtrees: ["c", "g"],
    });
    chain.same();
  });

  it("works with paths longer than PATH_MAX", async () => {
    const inDeep = (root: string, change: (fd: number) => void): void => {
      let directory = sys.open(root, C.O_RDONLY | C.O_DIRECTORY);
      for (let depth = 0; depth < 25; depth++) {
        const name = "x".repeat(200);
        if (sys.statIfExists(directory.fd, name) === undefined) sys.mkdirat(directory.fd, name, 0o755);
        using above = directory;
        directory = new sys.OwnedFd(sys.openat(above.fd, name, C.O_RDONLY | C.O_DIRECTORY));
      }
      using deepest = directory;
      change(deepest.fd);
    };
    const write = (fd: number, text: string): void => {
      using file = new sys.OwnedFd(sys.openat(fd, "file", C.O_WRONLY | C.O_CREAT, 0o644));
      sys.writeAll(file.fd, Buffer.from(text));
    };
    await using chain = await pair(
      (root) =>
        inDeep(root, (fd) => {
          write(fd, "1");
          sys.linkat(fd, "file", fd, "link");
        }),
      (root) => inDeep(root, (fd) => write(fd, "22")),
    );
    const { changes, doubt } = chain.diff(send);
    // The kernel does not send such paths: then the trees are compared.
    if (doubt !== undefined) assert.match(doubt, /^btrfs send gave ENAMETOOLONG|^btrfs send gave ENOMEM/);
    assert.deepEqual(changes, chain.diff(undefined).changes);
    assert.equal(changes.length, 27);
  });

  it("sees a change that keeps size and time, also of contents kept in the inode's block", async () => {
    const write = (root: string, text: string): void => {
      for (const [name, length] of [
        ["small", 10],
        ["large", 100_000],
      ] as const) {
        writeFileSync(`${root}/${name}`, text.repeat(length));
        utimesSync(`${root}/${name}`, 1e9, 1e9);
      }
      utimesSync(root, 1e9, 1e9);
    };
    await using chain = await pair(
      (root) => write(root, "a"),
      (root) => write(root, "b"),
    );
    assert.deepEqual(chain.same(), ["M large", "M small"]);
  });

  it("says why it cannot be had, and what else is known is used", async () => {
    const clock = takeClockStamp(place.directory);
    await using chain = await pair(
      (root) => sh("mkdir d; echo 1 > d/f; echo 2 > g", root),
      (root) => symlinkSync("target", `${root}/d/link`),
    );
    const expected = chain.diff(undefined).changes;
    {
      using root = sys.open(chain.at(1), C.O_RDONLY | C.O_DIRECTORY);
      await setSubvolumeReadOnly(root.fd, false);
    }
    const without = chain.diff(send);
    assert.match(without.doubt ?? "", /^btrfs send needs CAP_SYS_ADMIN and read-only subvolumes$/);
    assert.deepEqual(without.changes, expected);
    const otherwise = chain.diff({ kind: "btrfs-send", otherwise: { kind: "clone", clock } });
    assert.match(otherwise.doubt ?? "", /^btrfs send needs/);
    assert.deepEqual(otherwise.changes, expected);

    const plain = directoryIn(place, "plain");
    const differ = new TreesDiffer({ kind: "trees", parent: plain, tree: chain.at(1), hint: send });
    assert.ok([...differ.changes()].length >= 4);
    assert.equal(differ.doubt, "a tree is no btrfs subvolume");
  });
});

describe("a stream of the btrfs tool", { skip: place.skip ?? false }, () => {
  for (const version of [1, 2])
    it(`is read in version ${version}, and refused when it was cut or changed`, async () => {
      await using chain = await pair(
        (root) => sh("mkdir d; echo 1 > d/f; echo 2 > g", root),
        (root) => sh("echo 3 >> g; mv d e; ln g h; mkfifo p; head -c 70000 /dev/zero > data", root),
      );
      const file = join(place.directory, `stream${version}`);
      const what = ["-p", chain.at(0), chain.at(1), "-f", file];
      // Version 2 with all data, which it writes in a way of its own.
      const how = version === 1 ? ["--no-data"] : ["--proto", "2"];
      execFileSync("btrfs", ["send", "-q", ...how, ...what], { stdio: "pipe" });
      const stream = readFileSync(file);
      rmSync(file);
      const read = (bytes: Buffer): Set<string> => {
        const paths = new Set<string>();
        const reader = new SendStreamReader(({ path }) => paths.add(path));
        reader.push(bytes);
        reader.end();
        return paths;
      };
      const paths = read(stream);
      for (const path of ["g", "h", "p", "data"]) assert.ok(paths.has(path), path);
      const refused = (bytes: Buffer, why: string): void =>
        assert.throws(
          () => read(bytes),
          (error) => isLamellaError(error, "data_loss"),
          why,
        );
      for (let i = 0; i < 200; i++) {
        const at = Math.floor((stream.length * i) / 200);
        refused(stream.subarray(0, at), `cut at ${at}`);
        const changed = Buffer.from(stream);
        changed[at] = (changed[at] ?? 0) ^ (1 << (i % 8));
        refused(changed, `changed at ${at}`);
      }
    });

  it("leaves nothing behind", () =>
    assert.deepEqual(
      readdirSync(place.directory).filter((name) => name.startsWith("s")),
      [],
    ));
});
