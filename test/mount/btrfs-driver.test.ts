/** What the driver btrfs does that no other driver has to: nested subvolumes, layers that are written to, limits, probes. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename } from "node:path";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { listChanges } from "../../src/diff/export-layer.ts";
import type { DiffSource } from "../../src/diff/source.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import type { BtrfsDriver } from "../../src/drivers/btrfs/btrfs.ts";
import { btrfsFactory } from "../../src/drivers/btrfs/factory.ts";
import type { LayerId } from "../../src/drivers/driver.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { isLamellaError } from "../../src/errors/lamella-error.ts";
import { hasCode } from "../../src/errors/syscall-error.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { sh, short } from "../support/overlay-lab.ts";

// The kernel cleans up after a commit.
const place = placeOf("btrfs", { size: "1G", mount: "commit=1" });
const elsewhere = placeOf("tmpfs");

/** A driver in a home of its own, all of whose layers are removed in the end; then no subvolume is left there. */
class Lab implements AsyncDisposable {
  readonly home = directoryIn(place);
  driver!: BtrfsDriver;

  static async open(options: Readonly<Record<string, string>> = {}): Promise<Lab> {
    const lab = new Lab();
    await lab.reopen(options);
    return lab;
  }

  async reopen(options: Readonly<Record<string, string>> = {}): Promise<void> {
    this.driver = (await btrfsFactory.open(this.home, options)) as BtrfsDriver;
  }

  /** A layer, changed by a shell script. */
  async layer(parent: LayerId | undefined, script: string, sizeBytes?: number): Promise<LayerId> {
    const id = newLayerId();
    await this.driver.create(id, parent, sizeBytes === undefined ? {} : { sizeBytes });
    sh(script, this.tree(id));
    return id;
  }

  tree(id: LayerId): string {
    return `${this.home}/subvolumes/${id}`;
  }

  /** Subvolumes below the home. */
  subvolumes(): string[] {
    const list = execFileSync("btrfs", ["subvolume", "list", place.directory], { encoding: "utf8" });
    return list
      .split("\n")
      .map((line) => line.replace(/.* path /, ""))
      .filter((path) => path.startsWith(`${basename(this.home)}/`));
  }

  async changes(id: LayerId): Promise<{ changes: string[]; hint: string | undefined; doubt: string | undefined }> {
    await using source = await this.driver.diffSource(id);
    assert.ok(source.value.kind === "trees");
    const differ = new TreesDiffer(source.value, { threads: 1 });
    const changes = [...differ.changes()].map(short);
    return { changes, hint: source.value.hint?.kind, doubt: differ.doubt };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of await this.driver.list()) await this.driver.remove(id);
    const left = this.subvolumes();
    execFileSync("rm", ["-rf", this.home]);
    assert.deepEqual(left, []);
  }
}

const native = { hint: "btrfs-send", doubt: undefined };

async function refuses(
  kind: Parameters<typeof isLamellaError>[1],
  message: RegExp,
  body: Promise<unknown>,
): Promise<void> {
  await assert.rejects(body, (error) => isLamellaError(error, kind) && message.test(error.message));
}

describe("the driver btrfs", { skip: place.skip ?? elsewhere.skip ?? false }, () => {
  it("lays layers out as Docker does", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(undefined, "echo 1 > file");
    const limited = await lab.layer(base, "", 64 << 20);
    assert.deepEqual(readdirSync(lab.home).sort(), [".lamella", "layers", "mnt", "quotas", "subvolumes"]);
    assert.equal(lstatSync(lab.tree(base)).ino, 256);
    assert.deepEqual(readdirSync(`${lab.home}/quotas`), [limited]);
    assert.equal(readFileSync(`${lab.home}/quotas/${limited}`, "utf8"), String(64 << 20));
    assert.equal(statSync(`${lab.home}/subvolumes`).mode & 0o777, 0o710);
    assert.equal(statSync(`${lab.home}/quotas`).mode & 0o777, 0o700);
    assert.deepEqual(lab.driver.status(), [["Btrfs", ""]]);
    const details = new Map(lab.driver.details());
    assert.deepEqual([...details.keys()], ["Native Diff", "Quota", "Data Space", "Metadata Space"]);
    assert.equal(details.get("Native Diff"), "btrfs send");
    assert.equal(details.get("Quota"), "on");
    assert.match(details.get("Data Space") ?? "", /^[\d.]+[kM]?B of [\d.]+MB set aside$/);
    await lab.driver.remove(limited);
    assert.deepEqual(readdirSync(`${lab.home}/quotas`), []);
  });

  it("makes sealed layers read-only for everybody", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(undefined, "echo 1 > file");
    await lab.driver.seal(base);
    for (const write of [() => writeFileSync(`${lab.tree(base)}/file`, "2"), () => mkdirSync(`${lab.tree(base)}/d`)])
      assert.throws(write, (error) => hasCode(error, "EROFS"));
    const child = await lab.layer(base, "echo 2 > file");
    await lab.layer(child, "");
    assert.throws(
      () => rmSync(`${lab.tree(child)}/file`),
      (error) => hasCode(error, "EROFS"),
    );
  });

  it("finds the changes of a layer that is being written to, as they are at one moment", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(undefined, "mkdir d; echo 0 > d/a; echo 0 > d/b");
    const id = await lab.layer(base, "");
    const script =
      "i=0; while :; do i=$((i+1)); echo $i > d/a.new; mv d/a.new d/a; echo $i > d/b.new; mv d/b.new d/b; done";
    const writer = spawn("sh", ["-c", script], { cwd: lab.tree(id), stdio: "ignore" });
    try {
      for (let i = 0; i < 5; i++) {
        await setTimeout(20);
        await using source = await lab.driver.diffSource(id);
        const { tree, hint } = treesOf(source.value);
        assert.equal(hint?.kind, "btrfs-send");
        const [a, b] = ["a", "b"].map((name) => Number(readFileSync(`${tree}/d/${name}`, "utf8")));
        assert.ok(a !== undefined && b !== undefined && (a === b || a === b + 1), `${a} and ${b}`);
        const changes = (await listChanges(source.value)).map(({ kind, path }) => `${kind} ${path}`);
        const settled = changes.filter((change) => !change.endsWith(".new"));
        assert.deepEqual(settled, ["C /d", "C /d/a", "C /d/b"]);
        assert.equal(Number(readFileSync(`${tree}/d/b`, "utf8")), b);
        const other = (await btrfsFactory.open(lab.home, {})) as BtrfsDriver;
        assert.equal(await other.reclaim(), 0);
      }
    } finally {
      writer.kill("SIGKILL");
      await once(writer, "exit");
    }
    assert.deepEqual(readdirSync(`${lab.home}/subvolumes`).sort(), [base, id].sort());
    assert.deepEqual(
      readdirSync(`${lab.home}/.lamella`).filter((name) => name.startsWith("creating")),
      [],
    );
  });

  it("keeps what programs put into subvolumes of their own", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(undefined, "mkdir d; echo 1 > d/f; touch -d @1000000000 d");
    const nest = `
      btrfs -q subvolume create d/outer; echo 2 > d/outer/g; ln d/outer/g d/outer/h; chmod 700 d/outer
      mkdir d/outer/e; btrfs -q subvolume create d/outer/e/inner; echo 3 > d/outer/e/inner/i
      btrfs -q subvolume snapshot -r d/outer/e/inner frozen; touch -d @1000000000 d`;
    const id = await lab.layer(base, nest);
    const expected = ["M d/", "A d/outer/", "A d/outer/e/", "A d/outer/e/inner/", "A d/outer/e/inner/i", "A d/outer/g"];
    const all = [...expected, "A d/outer/h = d/outer/g", "A frozen/", "A frozen/i"];
    const live = await lab.changes(id);
    assert.deepEqual({ hint: live.hint, doubt: live.doubt }, { hint: "clone", doubt: undefined });
    assert.deepEqual(live.changes, all);
    const child = await lab.layer(id, "echo 4 > d/outer/e/inner/j");
    assert.equal(readFileSync(`${lab.tree(child)}/d/outer/e/inner/i`, "utf8"), "3\n");
    assert.equal(readFileSync(`${lab.tree(child)}/frozen/i`, "utf8"), "3\n");
    assert.equal(statSync(`${lab.tree(id)}/d/outer`).mode & 0o777, 0o700);
    assert.equal(statSync(`${lab.tree(id)}/d`).mtimeMs, 1e12);
    assert.deepEqual(await lab.changes(id), { ...native, changes: all.map((change) => change) });
    assert.deepEqual((await lab.changes(child)).changes, [
      "M d/",
      "M d/outer/",
      "M d/outer/e/",
      "M d/outer/e/inner/",
      "A d/outer/e/inner/j",
    ]);
    assert.equal(lab.subvolumes().length, 3);
  });

  it("removes subvolumes of programs with the layer", async () => {
    await using lab = await Lab.open();
    const nest = `
      mkdir d; btrfs -q subvolume create d/one; btrfs -q subvolume create d/one/two; echo 1 > d/one/two/f
      btrfs -q subvolume snapshot -r d/one/two d/one/three; btrfs -q property set d/one ro true
      for i in $(seq 300); do btrfs -q subvolume create n$i; done`;
    const id = await lab.layer(undefined, nest);
    assert.equal(lab.subvolumes().length, 304);
    await lab.driver.remove(id);
    assert.deepEqual(lab.subvolumes(), []);
  });

  it("deletes what crashes left", async () => {
    await using lab = await Lab.open();
    const id = await lab.layer(undefined, "echo 1 > f");
    const folder = `${lab.home}/subvolumes`;
    const other = newLayerId();
    sh(
      `btrfs -q subvolume create .${other}-creating-01; btrfs -q subvolume snapshot -r ${id} .${id}-diffing-02
       btrfs -q subvolume snapshot -r ${id} .${id}-removing-03; echo 5 > ../quotas/${other}; echo sealed > ../layers/${other}`,
      folder,
    );
    await lab.reopen();
    assert.equal(await lab.driver.reclaim(), 5);
    assert.equal(await lab.driver.reclaim(), 0);
    assert.deepEqual(readdirSync(folder), [id]);
    assert.deepEqual(readdirSync(`${lab.home}/quotas`), []);
  });

  it("removes a layer that is being sent once that is over", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(undefined, "");
    const id = await lab.layer(base, "for i in $(seq 3000); do echo $i > file-with-a-name-$i; done");
    await lab.driver.seal(id);
    const sender = spawn("btrfs", ["send", "-q", "-p", lab.tree(base), lab.tree(id)], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    // Nobody reads more than the first piece: the kernel waits in the middle.
    await once(sender.stdout, "readable");
    let removed = false;
    const removal = lab.driver.remove(id).then(() => {
      removed = true;
    });
    await setTimeout(300);
    assert.equal(removed, false);
    assert.equal(lab.driver.exists(id), false);
    sender.kill("SIGKILL");
    await removal;
    assert.equal(lab.subvolumes().length, 1);
  });

  it("compares with a parent that was put in the place of the first", async () => {
    await using lab = await Lab.open();
    const fill = "mkdir d; echo 1 > d/f; echo 2 > d/g; touch -d @1000000000 d/f d/g d .";
    const old = await lab.layer(undefined, fill);
    const fresh = await lab.layer(undefined, fill);
    const id = await lab.layer(old, "echo 3 > d/new");
    await lab.driver.reparent(id, fresh);
    await lab.driver.remove(old);
    assert.deepEqual(await lab.changes(id), { changes: ["M d/", "A d/new"], hint: undefined, doubt: undefined });
  });

  it("counts what was written to a layer as its own, whoever is cloned from it", async () => {
    await using lab = await Lab.open();
    const base = await lab.layer(
      undefined,
      "head -c 1048576 /dev/urandom > large; cp large other; echo 1 > small; sync -f .",
    );
    const script =
      "dd if=/dev/urandom of=large bs=4096 count=2 conv=notrunc status=none; cp --reflink=always other copy";
    const id = await lab.layer(base, `${script}; rm small; ln other link; head -c 100 /dev/zero > inline; sync -f .`);
    const expected = { sizeBytes: 2 * 4096 + 4096, inodes: 2 };
    assert.deepEqual(await lab.driver.usage(id), expected);
    const child = await lab.layer(id, "sync -f .");
    assert.deepEqual(await lab.driver.usage(id), expected);
    assert.deepEqual(await lab.driver.usage(child), { sizeBytes: 0, inodes: 0 });
  });

  it("limits layers with Docker's words", async () => {
    await using lab = await Lab.open({ "btrfs.min_space": "10M" });
    assert.equal(new Map(lab.driver.details()).get("Quota"), "on");
    const base = await lab.layer(undefined, "");
    const create = (sizeBytes: number): Promise<void> => lab.driver.create(newLayerId(), base, { sizeBytes });
    await refuses("invalid_argument", /^btrfs: invalid storage size: 0B$/, create(0));
    await refuses("invalid_argument", /^btrfs: storage size cannot be less than 10.5MB$/, create(9 << 20));
    assert.equal(lab.subvolumes().length, 1);
    const id = await lab.layer(base, "", 10 << 20);
    const fills = async (): Promise<void> => {
      await using mounted = await lab.driver.mount(id);
      const fd = openSync(`${mounted.path}/growing`, "w");
      try {
        assert.throws(
          () => {
            for (let i = 0; i < 40; i++) writeSync(fd, Buffer.alloc(1 << 20, 1));
          },
          (error) => (error as NodeJS.ErrnoException).errno === -122,
        );
      } finally {
        closeSync(fd);
      }
    };
    await fills();
    // Who turns quotas off and on again has forgotten all limits; mounting brings a layer's back.
    execFileSync("btrfs", ["quota", "disable", place.directory]);
    rmSync(`${lab.tree(id)}/growing`);
    await fills();
    await refuses(
      "invalid_argument",
      /unknown option btrfs\.minspace/,
      btrfsFactory.open(lab.home, { "btrfs.minspace": "1" }),
    );
  });

  it("leaves no quota group behind", async () => {
    await using lab = await Lab.open();
    const groups = (): number => {
      execFileSync("btrfs", ["subvolume", "sync", place.directory]);
      return execFileSync("btrfs", ["qgroup", "show", place.directory], { encoding: "utf8" }).split("\n").length;
    };
    const base = await lab.layer(undefined, "", 50 << 20);
    const before = groups();
    for (let i = 0; i < 5; i++) await lab.driver.remove(await lab.layer(base, "echo 1 > f", 50 << 20));
    assert.equal(groups(), before);
  });

  it("carries images and containers", () => {
    const directory = directoryIn(place, "engine");
    const script = fileURLToPath(new URL("./btrfs-engine-child.ts", import.meta.url));
    execFileSync(process.execPath, [...process.execArgv, script, directory], { stdio: "pipe" });
    execFileSync("rm", ["-rf", directory]);
  });

  it("says what it can do where, and why not", async () => {
    await using lab = await Lab.open();
    const yes = await btrfsFactory.probe(lab.home);
    assert.deepEqual(
      yes.map(({ name, ok, required }) => `${name} ${ok} ${required}`),
      [
        "file_system true true",
        "subvolume true true",
        "snapshot true true",
        "send true false",
        "destroy true false",
        "quota true false",
      ],
    );
    assert.deepEqual(
      readdirSync(lab.home).filter((name) => name.includes("trial")),
      [],
    );
    assert.deepEqual(lab.subvolumes(), []);
    const [no, ...more] = await btrfsFactory.probe(`${elsewhere.directory}/new/home`);
    assert.deepEqual(more, []);
    assert.deepEqual(no, {
      name: "file_system",
      ok: false,
      reason: `${elsewhere.directory} lies on tmpfs`,
      remedy: "put the root on a btrfs file system, or use overlay2",
      required: true,
    });
    const home = `${elsewhere.directory}/home`;
    await refuses("failed_precondition", /^btrfs does not work under .*lies on tmpfs$/, btrfsFactory.open(home, {}));
    assert.equal(existsSync(home), false);
  });
});

function treesOf(source: DiffSource): Extract<DiffSource, { kind: "trees" }> {
  assert.ok(source.kind === "trees");
  return source;
}
