/** `lamella migrate --to`: what it prints, what it refuses and why, giving up, and two of them at once. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { EndedMigration, MigrationProgress, MigrationReport } from "../../src/engine/options.ts";
import { finishMigration, undoMigration } from "../../src/migrate/finish.ts";
import { migrateToDriver, type ToDriverOptions } from "../../src/migrate/to-driver.ts";
import type { Store } from "../../src/store/store.ts";
import { openAt } from "../support/migrate-lab.ts";
import { CliLab, program } from "./cli-harness.ts";

const lab = new CliLab();
const skip = process.getuid?.() === 0 ? lab.unsupported() : "the drivers that data is moved between need root";
after(() => lab[Symbol.dispose]());

const { root } = lab;
const elsewhere = join(lab.directory, "elsewhere");
const record = join(root, "migration.json");

async function importTree(store: Store, content: string, tag: string): Promise<void> {
  const tree = join(lab.directory, tag.replace(":", "-"));
  mkdirSync(tree);
  writeFileSync(join(tree, "file"), content);
  await store.importRoot({ kind: "directory", path: tree }, { tags: [tag] });
}

/** What `lamella` says when it refuses. */
function refusal(status: number, ...words: readonly string[]): string {
  const result = lab.lamella(...words);
  assert.equal(result.status, status, `${words.join(" ")}\n${result.stdout}${result.stderr}`);
  return result.stderr;
}

async function move(options: ToDriverOptions, from = root): Promise<MigrationReport> {
  await using store = await openAt(from);
  return await migrateToDriver(store, options);
}

/** Tags of all images under the driver that counts. */
async function tagsIn(path: string, driver?: string): Promise<string[]> {
  await using store = await openAt(path, driver);
  assert.deepEqual((await store.check({ deep: true })).findings, []);
  return store.images().flatMap(({ tags }) => tags);
}

before(async () => {
  if (skip !== undefined) return;
  await using store = await openAt(root, "overlay2");
  await importTree(store, "x".repeat(10_000), "app:1");
  await store.createContainer({ image: "app:1", name: "box" });
});

test("what cannot be is refused before anything is done", { skip }, async () => {
  const files = readdirSync(root).sort();
  assert.match(
    refusal(1, "migrate", "--to", "overlay2"),
    /is under the driver overlay2 already\nhint: name another driver, or another directory with --to-root/,
  );
  assert.match(refusal(1, "migrate", "--to", "vsf"), /no storage driver "vsf"\nhint: did you mean vfs\?/);
  await assert.rejects(move({ driver: "vsf", dryRun: true }), { code: "DRIVER_UNKNOWN" });
  // A tmpfs is no place for subvolumes, whatever the temporary directory lies on.
  const place = join(lab.directory, "tmpfs");
  mkdirSync(place);
  const { stderr } = lab.script(`
    mount -t tmpfs tmpfs ${place}
    lamella migrate --to btrfs --to-root ${place}/store || lamella migrate --to btrfs --to-root ${place}/store --dry-run`);
  assert.match(
    stderr,
    /^(lamella: btrfs does not work under \S+: \S+ lies on tmpfs\nhint: put the root on a btrfs.*\n){2}/,
  );
  assert.match(refusal(1, "migrate", "--finish"), /is not being moved\nhint: `lamella migrate --to DRIVER` moves it/);
  await assert.rejects(undoMigration({ root }), { code: "NO_MIGRATION" });
  assert.match(refusal(2, "migrate", "--to", "vfs", "--undo"), /only one move at a time/);
  assert.deepEqual(readdirSync(root).sort(), files);
});

test("while somebody uses the store or a container", { skip }, async () => {
  await using store = await openAt(root);
  {
    await using _mounted = await store.driver.mount(store.container("box").layerId);
    await assert.rejects(migrateToDriver(store, { driver: "vfs" }), {
      code: "CONTAINER_MOUNTED",
      hint: /lamella umount box/,
    });
  }
  assert.match(refusal(1, "migrate", "--to", "vfs"), /another process works on .*\nhint: wait for it/);
  assert.equal(existsSync(record), false);
});

test("two at once: nothing is lost, and the next one ends the move", { skip }, async () => {
  const [file = "", ...args] = program;
  const env = { ...process.env, LAMELLA_ROOT: root };
  const runs = [0, 1].map(async () => {
    const run = spawn(file, [...args, "migrate", "--to", "vfs", "-q"], { env, stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    run.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const [status] = await once(run, "close");
    return { status, stderr };
  });
  // Either may see the other, and both may.
  for (const { status, stderr } of await Promise.all(runs))
    if (status !== 0) assert.match(stderr, /another process works on|is under the driver vfs already/);
  await move({ driver: "vfs" }).catch((error) => {
    assert.equal(error.code, "SAME_DRIVER");
    assert.match(error.hint, /has been moved; `lamella migrate --finish` removes the data under overlay2/);
  });
  assert.deepEqual(await tagsIn(root, "overlay2"), ["app:1"]);
  assert.deepEqual(await tagsIn(root), ["app:1"]);
  const { removed } = await undoMigration({ root });
  assert.equal(removed.driver, "vfs");
  await using store = await openAt(root);
  assert.equal(store.driver.name, "overlay2");
});

test("cut short: cannot be finished, can be given up", { skip }, async () => {
  const stop = new AbortController();
  const onProgress = ({ event }: MigrationProgress): void => {
    if (event === "done") stop.abort();
  };
  const cut = move({ driver: "aufs", root: elsewhere, signal: stop.signal, onProgress });
  await assert.rejects(cut, { kind: "canceled" });
  await assert.rejects(finishMigration({ root }), {
    code: "MIGRATION_INCOMPLETE",
    hint: `run \`lamella migrate --to aufs --to-root ${elsewhere}\` to its end first, or give it up with --undo`,
  });
  await assert.rejects(move({ driver: "vfs" }), { code: "MIGRATION_UNDER_WAY", hint: /^run .* to its end, then end/ });
  await undoMigration({ root });
  assert.deepEqual([await tagsIn(root), await tagsIn(elsewhere, "aufs")], [["app:1"], []]);
  rmSync(elsewhere, { recursive: true });
});

test("what a container wrote since is not lost", { skip }, async () => {
  const written = async (path: string, text?: string): Promise<string> => {
    await using store = await openAt(path);
    await using mounted = await store.driver.mount(store.container("box").layerId);
    if (text !== undefined) writeFileSync(join(mounted.path, "file"), text);
    return readFileSync(join(mounted.path, "file"), "utf8");
  };
  const again = { driver: "vfs", root: elsewhere };
  await move(again);
  await written(root, "old");
  await assert.rejects(finishMigration({ root }), { code: "CHANGED_SINCE" });
  // Nobody has worked on the new one: it becomes what the old one is now.
  assert.deepEqual((await move(again)).notes, []);
  assert.equal(await written(elsewhere), "old");
  await written(elsewhere, "new");
  await assert.rejects(undoMigration({ root }), { code: "CHANGED_SINCE" });
  await written(root, "older");
  const [note] = (await move(again)).notes;
  assert.deepEqual(note, { subject: "box", message: "container: it is there already, and was left as it is there" });
  assert.equal(await written(elsewhere), "new");
  await written(elsewhere, "newer");
  await undoMigration({ root, force: true });
  assert.equal(await written(root), "older");
  rmSync(elsewhere, { recursive: true });
});

test("--json, --dry-run, another move, --undo and --finish", { skip }, async () => {
  const words = ["migrate", "--to", "vfs", "--to-root", elsewhere];
  const dry = lab.json<MigrationReport>(...words, "--dry-run");
  assert.deepEqual([dry.dryRun, dry.images.length, dry.layers.count], [true, 1, 1]);
  assert.deepEqual([existsSync(elsewhere), existsSync(record)], [false, false]);

  const { images, containers, layers, leftOut, dryRun } = lab.json<MigrationReport>(...words);
  assert.deepEqual(images, dry.images);
  assert.deepEqual([containers.map(({ name }) => name), leftOut, dryRun], [["box"], [], false]);
  assert.deepEqual([layers.count, layers.made], [1, 1]);
  assert.ok(layers.sharedBytes >= 10_000);
  await assert.rejects(move({ driver: "aufs" }), {
    code: "MIGRATION_UNDER_WAY",
    message: `${root} has been moved from overlay2 to vfs in ${elsewhere}`,
    hint: /--finish.*--undo/,
  });
  assert.deepEqual([await tagsIn(root), await tagsIn(elsewhere)], [["app:1"], ["app:1"]]);

  const undone = lab.json<EndedMigration>("migrate", "--undo");
  assert.deepEqual(undone.removed, { driver: "vfs", root: elsewhere, images: 1, layers: 1 });
  assert.deepEqual(undone.kept, { driver: "overlay2", root });
  assert.deepEqual([await tagsIn(root), await tagsIn(elsewhere, "vfs")], [["app:1"], []]);

  await move({ driver: "vfs", root: elsewhere });
  {
    await using store = await openAt(root);
    store.tag("app:1", "app:2");
  }
  await assert.rejects(finishMigration({ root }), { code: "CHANGED_SINCE", hint: /move again with --driver overlay2/ });
  assert.equal((await move({ driver: "vfs", root: elsewhere })).layers.made, 0);
  const hidden = lab.script(`
    mount -t tmpfs tmpfs ${elsewhere}
    lamella migrate --finish`);
  assert.match(hidden.stderr, /there is nothing of vfs in \S+\nhint: mount its file system/);
  assert.match(
    lab.ok("migrate", "--finish"),
    /^Removed 1 image and 1 layer under overlay2 in \S+; what is under vfs in/,
  );
  assert.deepEqual((await tagsIn(elsewhere)).sort(), ["app:1", "app:2"]);
  assert.deepEqual(await tagsIn(root), []);
});

test("--undo does not take away what was there before", { skip }, async () => {
  const third = join(lab.directory, "third");
  {
    await using store = await openAt(third, "aufs");
    await importTree(store, "other", "other:1");
  }
  await assert.rejects(move({ driver: "overlay2", root: third }, elsewhere), { code: "OTHER_DRIVER" });
  await move({ driver: "aufs", root: third }, elsewhere);
  await assert.rejects(undoMigration({ root: elsewhere }), {
    code: "MERGED",
    hint: /--finish end the move; use --force/,
  });
  await finishMigration({ root: elsewhere });
  assert.deepEqual((await tagsIn(third)).sort(), ["app:1", "app:2", "other:1"]);
});
