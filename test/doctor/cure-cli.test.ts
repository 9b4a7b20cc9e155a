/** The command line of cures: what it shows, asks, refuses and ends with. On a data root that no daemon runs on. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CliLab, program } from "../e2e/cli-harness.ts";

const root = mkdtempSync(join(tmpdir(), "lamella-docker-root-"));
after(() => rmSync(root, { recursive: true, force: true }));
const orphan = join(root, "overlay2", "0".repeat(64));
const id = "orphan-layers";

const layer = join(root, "image/overlay2/layerdb/sha256", "a".repeat(64));
mkdirSync(join(root, "overlay2/used/diff"), { recursive: true });
mkdirSync(layer, { recursive: true });
for (const [name, text] of Object.entries({ "cache-id": "used", diff: "sha256:x", size: "1" }))
  writeFileSync(join(layer, name), text);

/** Makes the orphan, which looks old. */
function makeOrphan(): void {
  mkdirSync(join(orphan, "diff"), { recursive: true });
  utimesSync(orphan, 1, 1);
}

test("shown, asked, declined, done, told of, undone, ended; as JSON", (t) => {
  if (process.getuid?.() !== 0) return t.skip("a cure of a data root needs root");
  makeOrphan();
  using lab = new CliLab();
  const doctor = (...words: string[]): ReturnType<CliLab["lamella"]> => lab.lamella("doctor", "--only", root, ...words);
  const dry = doctor("--fix", id, "--dry-run");
  assert.equal(dry.status, 0, dry.stderr);
  assert.match(dry.stdout, /^Cure of orphan-layers Docker \(/);
  assert.match(dry.stdout, /^ {3}1\. rename \S+0{64} into \S+lamella-doctor-orphans$/m);
  assert.match(dry.stdout, /Undo +lamella doctor --undo orphan-layers/);
  assert.ok(existsSync(orphan));

  // On a terminal it asks.
  const asking = [...program, "doctor", "--only", root, "--fix", id].map((word) => `'${word}'`).join(" ");
  const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", LAMELLA_ROOT: lab.root };
  const declined = spawnSync("script", ["-qec", asking, "/dev/null"], { input: "n\n", encoding: "utf8", env });
  assert.equal(declined.status, 3, declined.stdout);
  assert.match(declined.stdout, /Do this\? \[y\/N\]/);
  assert.ok(existsSync(orphan));

  const done = JSON.parse(lab.ok("doctor", "--only", root, "--fix", id, "--yes", "--json"));
  assert.deepEqual([done.outcome, done.stillThere, done.plan.steps[0].kind], ["cured", false, "set-aside"]);
  assert.equal(existsSync(orphan), false);
  assert.match(doctor().stdout, /^orphan-layers is cured: --undo puts all back, --finish ends it$/m);
  const again = doctor("--fix", id, "--yes");
  assert.deepEqual([again.status, again.stdout], [0, `${id} is not found here: nothing to do.\n`]);
  assert.equal(JSON.parse(lab.ok("doctor", "--undo", id, "--json")).outcome, "undone");
  assert.ok(existsSync(orphan));
  assert.equal(doctor("--undo", id).status, 1, "nothing to undo any more");
  assert.equal(doctor("--fix", id, "--yes", "-q").stdout, "");
  assert.match(doctor("--finish", id).stdout, /the cure is ended/);
  assert.equal(existsSync(join(root, "lamella-doctor-orphans")), false);
});

test("without root: the plan, and what is needed", (t) => {
  if (process.getuid?.() !== 0) return t.skip("it takes root to be somebody else");
  makeOrphan();
  for (const path of [root, orphan]) chmodSync(path, 0o755);
  utimesSync(orphan, 1, 1);
  using other = new CliLab({ uid: 65_534 });
  const { status, stdout, stderr } = other.lamella("doctor", "--only", root, "--fix", id, "--yes");
  assert.equal(status, 1);
  assert.match(stdout, /^Cure of orphan-layers/);
  assert.match(stderr, /sudo lamella doctor --fix orphan-layers/);
  assert.ok(existsSync(orphan));
});

test("usage", () => {
  using lab = new CliLab();
  for (const words of [
    ["--fix", id, "--undo", id],
    ["--yes"],
    ["--undo", id, "--dry-run"],
    ["--fix", id, "--size", "many"],
  ])
    assert.equal(lab.lamella("doctor", ...words).status, 2, words.join(" "));
  assert.equal(lab.lamella("doctor", "--fix", "slowness").status, 1);
  assert.match(lab.ok("doctor", "--help"), /--undo <id>[\s\S]*sudo lamella doctor --finish orphan-layers/);
});
