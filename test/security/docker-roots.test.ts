/**
 * Docker roots that somebody prepared: nothing outside them is read, what is wrong is named, and what is right is brought over
 * all the same.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { migrateFromDocker } from "../../src/migrate/from-docker.ts";
import type { MigrationReport } from "../../src/migrate/report.ts";
import { migrateToDocker } from "../../src/migrate/to-docker.ts";
import { Store } from "../../src/store/store.ts";
import { commitChange, makeTree } from "../fault/store-fixtures.ts";
import { privateMounts } from "../support/overlay-lab.ts";

const mounts = privateMounts();
const directory = mkdtempSync(join(tmpdir(), "lamella-docker-roots-"));
after(() => execFileSync("rm", ["-rf", directory]));

const secret = join(directory, "secret");
let count = 0;

function sh(script: string, cwd: string): string {
  return execFileSync("sh", ["-euc", script], { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
}

/** A root with two images, `lower:1` of one layer and `upper:1` of two. */
async function makeRoot(): Promise<string> {
  const store = join(directory, "maker");
  const root = join(directory, "docker");
  await using maker = await Store.open({ root: store, driver: "overlay2", durable: false });
  const tree = makeTree(join(directory, "tree"), "docker");
  await maker.importRoot({ kind: "directory", path: tree }, { tags: ["lower:1"] });
  await commitChange(maker, "lower:1", "upper:1", "upper");
  assert.deepEqual((await migrateToDocker(maker, { root })).leftOut, []);
  return root;
}

function holdsSecret(path: string): boolean {
  return spawnSync("grep", ["-rqa", "a secret from outside", path]).status === 0;
}

interface Outcome {
  readonly report: MigrationReport;
  readonly tags: readonly string[];
}

describe("prepared Docker roots", { skip: mounts === true ? undefined : mounts }, async () => {
  const root = mounts === true ? await makeRoot() : "";
  writeFileSync(secret, "a secret from outside\n");
  mkdirSync(join(directory, "outside"));

  /** Brings over a copy of the root that `script` has changed; `$L` is the lower layer's directory in the layerdb, `$U` the upper's. */
  async function move(script: string): Promise<Outcome> {
    const copy = join(directory, `copy-${count++}`);
    sh(`cp -a ${root} ${copy}`, directory);
    const find = (what: string): string =>
      sh(`for d in image/overlay2/layerdb/sha256/*; do test ${what} -e $d/parent && echo $d; done; true`, copy);
    const [lower, upper] = [find("!"), find("")];
    sh(`L=${lower} U=${upper} S=${secret} O=${join(directory, "outside")}; ${script}`, copy);
    await using store = await Store.open({ root: `${copy}-store`, driver: "overlay2", durable: false });
    const report = await migrateFromDocker(store, { root: copy });
    assert.deepEqual((await store.check({ deep: true })).findings, []);
    assert.ok(!holdsSecret(store.root), "something from outside was read");
    return {
      report,
      tags: store
        .images()
        .flatMap(({ tags }) => tags)
        .sort(),
    };
  }

  test("an honest one comes over whole", async () => {
    const { report, tags } = await move("true");
    assert.deepEqual(tags, ["lower:1", "upper:1"]);
    assert.deepEqual(report.leftOut, []);
  });

  /** Damage to the upper layer alone, and what is said of it. */
  const damages: Record<string, readonly [script: string, message: RegExp]> = {
    "a cache ID that climbs": ["printf ../../.. > $U/cache-id", /is missing or damaged/],
    "a cache ID that is a path": ["printf /etc > $U/cache-id", /is missing or damaged/],
    "an empty cache ID": [": > $U/cache-id", /is missing or damaged/],
    "no cache ID": ["rm $U/cache-id", /is missing or damaged/],
    "a cache ID that is a link": ["rm $U/cache-id; ln -s $S $U/cache-id", /is missing or damaged/],
    "a cache ID that is a fifo": ["rm $U/cache-id; mkfifo $U/cache-id", /is missing or damaged/],
    "a cache ID that never ends": ["rm $U/cache-id; ln -s /dev/zero $U/cache-id", /is missing or damaged/],
    "a parent that is none": ["printf sha256:00 > $U/parent", /is missing or damaged/],
    "another diff ID": ["tr 0-9 1-90 < $U/diff > d; mv d $U/diff", /is missing or damaged/],
    "a layer that is a link": ["mv $U $O/layer; ln -s $O/layer $U", /is missing or damaged/],
    "a truncated tar-split": ["truncate -s -9 $U/tar-split.json.gz", /truncated|ends|incomplete/i],
    "a tar-split that is a link": ["rm $U/tar-split.json.gz; ln -s $S $U/tar-split.json.gz", /ELOOP/],
    "a tree that is a link": ["d=overlay2/$(cat $U/cache-id); mv $d/diff $O/t; ln -s $O/t $d/diff", /is no directory/],
    "a tree that is missing": ["rm -r overlay2/$(cat $U/cache-id)", /is missing/],
    "a lower that climbs": ["printf l/../../../etc > overlay2/$(cat $U/cache-id)/lower", /its file `lower` is wrong/],
    "a name under l that leads out": [
      "l=$(cat overlay2/$(cat $L/cache-id)/link); rm overlay2/l/$l; ln -s $O overlay2/l/$l",
      /a layer below it, is missing/,
    ],
    "a file that is a link to one outside": [
      "f=overlay2/$(cat $U/cache-id)/diff/etc/marker-upper; rm $f; ln -s $S $f",
      /etc\/marker-upper is missing, or no file/,
    ],
    "a file that is a fifo": [
      "f=overlay2/$(cat $U/cache-id)/diff/etc/marker-upper; rm $f; mkfifo $f",
      /etc\/marker-upper is missing, or no file/,
    ],
    "a file with other content": [
      "printf UPPER > overlay2/$(cat $U/cache-id)/diff/etc/marker-upper",
      /etc\/marker-upper no longer has the content/,
    ],
    "a directory that is a link to one outside": [
      "d=overlay2/$(cat $U/cache-id)/diff; mkdir $O/etc; printf upper > $O/etc/marker-upper; mv $d/etc $O/was; ln -s $O/etc $d/etc",
      /etc\/marker-upper is missing, or no file/,
    ],
  };
  for (const [name, [script, message]] of Object.entries(damages)) {
    test(`${name}: the image on it is left out, the other comes over`, async () => {
      sh("rm -rf outside; mkdir outside", directory);
      const { report, tags } = await move(script);
      assert.deepEqual(tags, ["lower:1"]);
      const said = report.leftOut.map(({ subject, message }) => `${subject}: ${message}`).join("\n");
      assert.match(said, /^upper:1: /m);
      assert.match(said, message);
    });
  }

  test("a layer without tar-split is diffed anew", async () => {
    const { report, tags } = await move("gzip -dc $U/tar-split.json.gz > /dev/null; rm $U/tar-split.json.gz");
    assert.deepEqual(tags, ["lower:1", "upper:1"]);
    // The layer was Lamella's own, whose diff gives the same tar again.
    assert.deepEqual(report.leftOut, []);
  });

  test("owners shifted for a user namespace are shifted back", async () => {
    // Without its tar-split the layer is read from its tree, owners and all.
    const { report, tags } = await move(`rm $U/tar-split.json.gz
      find overlay2 | while read -r f; do o=$(stat -c '%u %g' "$f"); set -- $o; chown -h $(($1+70000)):$(($2+80000)) "$f"; done
      mkdir 70000.80000; mv image overlay2 70000.80000/`);
    assert.deepEqual(tags, ["lower:1", "upper:1"]);
    assert.deepEqual(report.notes, [], "the diff ID is another one");
  });

  test("aufs's layout, with whiteouts that are files", async () => {
    const { report, tags } = await move(`rm $U/tar-split.json.gz; l=$(cat $L/cache-id); u=$(cat $U/cache-id)
      mkdir -p aufs/diff aufs/layers aufs/mnt; mv overlay2/$l/diff aufs/diff/$l; mv overlay2/$u/diff aufs/diff/$u
      : > aufs/layers/$l; echo $l > aufs/layers/$u; rm -r overlay2; mv image/overlay2 image/aufs
      find aufs/diff/$u -type d | while read -r d; do
        if test "$(getfattr --only-values -n trusted.overlay.opaque "$d" 2>/dev/null)" = y; then
          touch -r "$d" time; setfattr -x trusted.overlay.opaque "$d"; : > "$d/.wh..wh..opq"; touch -r time "$d"
        fi; done`);
    assert.deepEqual(tags, ["lower:1", "upper:1"]);
    assert.deepEqual(report.notes, [], "the diff ID is another one");
  });

  test("a tag of no image and a config that was altered", async () => {
    const { report, tags } = await move(
      "f=image/overlay2/imagedb/content/sha256; id=$(sed 's/.*upper:1\":\"sha256:\\([0-9a-f]*\\).*/\\1/' image/overlay2/repositories.json); echo >> $f/$id",
    );
    assert.deepEqual(tags, ["lower:1"]);
    assert.match(report.leftOut[0]?.message ?? "", /was altered/);
  });

  test("a repositories.json that is none", async () => {
    await assert.rejects(move("echo '{' > image/overlay2/repositories.json"), { code: "INVALID_JSON" });
    await assert.rejects(move("echo '[]' > image/overlay2/repositories.json"), { code: "DOCKER_FILE" });
    const { tags } = await move(
      `echo '{"Repositories":{"a":{"a:../../x":"sha256:0"},"__proto__":{}}}' > image/overlay2/repositories.json`,
    );
    assert.deepEqual(tags, []);
  });

  test("an image directory that is a link", async () => {
    await assert.rejects(move("mv image/overlay2 $O/o; ln -s $O/o image/overlay2"), { code: "ELOOP" });
  });
});
