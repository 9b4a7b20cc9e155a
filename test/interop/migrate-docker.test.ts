/**
 * Moving between Docker's root and a store, with a real dockerd before and after: the same images, the same bytes from
 * `docker save`, containers with what they wrote.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.ts";
import { Docker } from "../support/dockerd.ts";
import { placeOf } from "../support/file-systems.ts";
import { type FlatTree, treeDifferences } from "../support/flat-tree.ts";
import { readDockerArchive, treeOf } from "../support/image-archive.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { baseArchive, baseName } from "./base-image.ts";

/** Changes that make every kind of mark in a layer. */
const dockerfile = `FROM ${baseName}
RUN rm -rf srv/many/one srv/config.ini opt/fifo && echo new > "opt/name with spaces"
RUN rm -rf srv/many/two && mkdir srv/many/two && echo new > srv/many/two/new.txt
RUN mv srv/many/three srv/tres && ln srv/tres/a.txt opt/hard && chown -R 1000:50 srv
RUN dd if=/dev/zero of=opt/big bs=1M count=3 2>/dev/null && echo end >> opt/big
RUN printf x > opt/$(printf 'not\\377text') && touch -d @1 opt/setuid
RUN rm -rf srv && echo file > srv
CMD ["sh"]
`;
const tags = ["base:latest", "app:1", "app:other"];

const base = baseArchive();
const mounts = privateMounts();
const first = typeof base === "string" || mounts !== true ? base : await Docker.start();
const reason =
  typeof base === "string" ? base : mounts !== true ? mounts : typeof first === "string" ? first : undefined;
if (first instanceof Docker) await first.stop();

const host = placeOf("host");
const btrfs = placeOf("btrfs", { size: "2G" });
const directory = mkdtempSync(join(tmpdir(), "lamella-migrate-"));
after(() => execFileSync("rm", ["-rf", directory]));

/** Runs a daemon on a root for as long as `body` takes. */
async function withDocker<T>(driver: string, dataRoot: string, body: (docker: Docker) => T | Promise<T>): Promise<T> {
  const docker = await Docker.start({ driver, dataRoot });
  if (typeof docker === "string") throw new Error(docker);
  try {
    return await body(docker);
  } finally {
    await docker.stop();
  }
}

/** Fills a root with images and a container. */
async function fill(docker: Docker): Promise<void> {
  const context = mkdtempSync(join(directory, "context-"));
  writeFileSync(join(context, "Dockerfile"), dockerfile);
  docker.run(["load"], { input: base as Buffer });
  await docker.build(context, ["-t", "app:1"]);
  docker.run(["tag", "app:1", "app:other"]);
  const script = "rm -rf opt/links; echo written > srv2; mkdir -p new/deep; echo x > new/deep/file; chmod 4755 new";
  docker.run(["run", "--name", "box", "--network=none", "app:1", "sh", "-c", script]);
  docker.run(["create", "--name", "fresh", "--network=none", "base:latest", "sh"]);
}

/** What a user compares: IDs, tags, sizes, and the bytes of what is saved. */
function stateOf(docker: Docker): { readonly saved: readonly { readonly id: string }[]; readonly listed: string } {
  const saved = readDockerArchive(docker.run(["save", ...tags])).map(({ id, tags, layers }) => ({
    id,
    tags,
    layers: layers.map((layer) => layer.length),
  }));
  // Docker saves images in the order of a Go map, which is none.
  saved.sort((a, b) => (a.id < b.id ? -1 : 1));
  const listed = docker.text(["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
  return { saved, listed: listed.split("\n").sort().join("\n") };
}

async function saveAll(engine: Engine): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await engine.save({ images: tags, output: async (chunk) => void chunks.push(Buffer.from(chunk)) });
  return Buffer.concat(chunks);
}

describe("between Docker's root and a store", { skip: reason }, () => {
  const source = join(directory, "docker-overlay2");
  let before: ReturnType<typeof stateOf>;
  let boxTree: string;

  test("setting up a root; a dockerd that runs on it is refused", async () => {
    mkdirSync(source);
    before = await withDocker("overlay2", source, async (docker) => {
      await fill(docker);
      boxTree = docker.text(["diff", "box"]);
      await using engine = await Engine.open({ root: join(directory, "refused"), driver: "vfs" });
      await assert.rejects(engine.migrateFromDocker({ root: source }), { code: "DOCKER_RUNNING" });
      await assert.rejects(engine.migrateToDocker({ root: source }), { code: "DOCKER_RUNNING" });
      const { images, notes } = await engine.migrateFromDocker({ root: source, dryRun: true });
      assert.equal(images.length, 2);
      assert.match(notes.map(({ message }) => message).join("; "), /dockerd is running/);
      return stateOf(docker);
    });
  });

  /** Brings the root over and compares. */
  async function bring(engine: Engine): Promise<void> {
    const report = await engine.migrateFromDocker({ root: source });
    assert.deepEqual(report.leftOut, []);
    assert.equal(report.containers.length, 2);
    assert.equal(report.layers.made, report.layers.count);
    await compare(engine);
  }

  async function compare(engine: Engine): Promise<void> {
    const saved = readDockerArchive(await saveAll(engine)).map(({ id }) => id);
    assert.deepEqual(saved.sort(), before.saved.map(({ id }) => id).sort());
    assert.deepEqual((await engine.check({ deep: true })).findings, []);
    const changes = (await engine.diff("box")).map(({ kind, path }) => `${kind} ${path}`);
    assert.deepEqual(changes.sort(), boxTree.split("\n").sort());
  }

  /** Writes a root that a dockerd then starts on. */
  async function back(engine: Engine, driver: string): Promise<void> {
    const target = mkdtempSync(join(directory, "docker-"));
    const report = await engine.migrateToDocker({ root: target, dockerDriver: driver });
    assert.deepEqual(report.leftOut, []);
    assert.equal((await engine.migrateToDocker({ root: target })).layers.made, 0, "what is there is made again");
    await withDocker(driver, target, (docker) => {
      assert.deepEqual(stateOf(docker), before);
      const said = docker.text(["run", "--rm", "--network=none", "app:1", "sh", "-c", "cat srv; ls opt | wc -l"]);
      assert.match(said, /^file\n\d+$/);
    });
  }

  test("overlay2 → overlay2, then vfs → vfs", async () => {
    const root = join(directory, "store");
    {
      await using engine = await Engine.open({ root, driver: "overlay2" });
      await bring(engine);
      const { leftOut, layers } = await engine.migrate({ driver: "vfs" });
      assert.deepEqual(leftOut, []);
      assert.ok(layers.sharedBytes > 1_000_000, "no data is shared");
    }
    await using engine = await Engine.open({ root });
    assert.equal(engine.driver.name, "vfs");
    await compare(engine);
    await back(engine, "vfs");
  });

  test("overlay2 → btrfs → vfs", async (t) => {
    const place = btrfs;
    if (place.skip !== undefined) return t.skip(place.skip);
    await using engine = await Engine.open({ root: join(place.directory, "store"), driver: "btrfs" });
    await bring(engine);
    await back(engine, "vfs");
  });

  test("a layer whose tar-split Docker lost gets another digest, and is whole", async () => {
    const copy = join(directory, "lossy");
    execFileSync("cp", ["-a", source, copy]);
    execFileSync("find", [join(copy, "image"), "-name", "tar-split.json.gz", "-delete"]);
    await using engine = await Engine.open({ root: join(directory, "store-lossy"), driver: "overlay2" });
    const { leftOut, images, notes } = await engine.migrateFromDocker({ root: copy });
    assert.deepEqual(leftOut, []);
    for (const { id, formerId } of images) assert.ok(formerId !== undefined && formerId !== id);
    assert.match(notes.map(({ message }) => message).join("; "), /lost its exact tar/);
    assert.deepEqual((await engine.check({ deep: true })).findings, []);
    const treesAsIs = readDockerArchive(await saveAll(engine)).map((image) => [image.tags, treeOf(image)] as const);
    await using plain = await Engine.open({ root: join(directory, "store-plain"), driver: "overlay2" });
    await plain.migrateFromDocker({ root: source });
    const trees = new Map(readDockerArchive(await saveAll(plain)).map((image) => [String(image.tags), treeOf(image)]));
    for (const [tags, tree] of treesAsIs)
      assert.deepEqual(treeDifferences(tree, trees.get(String(tags)) as FlatTree), []);
  });

  for (const theirs of ["vfs", "overlay", "btrfs", "fuse-overlayfs"] as const) {
    test(`Docker with ${theirs}`, async (t) => {
      const place = theirs === "btrfs" ? btrfs : host;
      if (place.skip !== undefined) return t.skip(place.skip);
      const root = mkdtempSync(join(place.directory, "docker-"));
      const [images, changed] = await withDocker(theirs, root, async (docker) => {
        docker.run(["load"], { input: base as Buffer });
        docker.run([
          "run",
          "--name",
          "box",
          "--network=none",
          baseName,
          "sh",
          "-c",
          "rm -rf opt/links; echo written > new",
        ]);
        docker.run(["commit", "box", "app:1"]);
        return [docker.text(["images", "-q", "--no-trunc"]).split("\n"), docker.text(["diff", "box"]).split("\n")];
      });
      await using engine = await Engine.open({ root: `${root}-store`, driver: "overlay2" });
      const { leftOut } = await engine.migrateFromDocker({ root });
      assert.deepEqual(leftOut, []);
      assert.deepEqual((await engine.images()).map(({ id }) => String(id)).sort(), images.sort());
      assert.deepEqual((await engine.check({ deep: true })).findings, []);
      const ours = (await engine.diff("box")).map(({ kind, path }) => `${kind} ${path}`);
      // What Docker's `overlay` puts into a container before it starts lies in the container's own layer.
      const isStub = (line: string): boolean =>
        /^[AC] \/(?:\.dockerenv|dev|dev\/.*|etc|etc\/(?:hostname|hosts|mtab|resolv\.conf)|proc|sys)$/.test(line);
      const own = theirs === "overlay" ? ours.filter((line) => !isStub(line)) : ours;
      assert.deepEqual(own.sort(), changed.filter(Boolean).sort());
      if (theirs === "btrfs") return;
      const again = `${root}-again`;
      assert.deepEqual((await engine.migrateToDocker({ root: again, dockerDriver: theirs })).leftOut, []);
      await withDocker(theirs, again, (docker) => {
        assert.deepEqual(docker.text(["images", "-q", "--no-trunc"]).split("\n").sort(), images.sort());
        assert.equal(readDockerArchive(docker.run(["save", "app:1", baseName])).length, 2);
        const said = docker.text([
          "run",
          "--rm",
          "--network=none",
          "app:1",
          "sh",
          "-c",
          "cat new; ls opt | grep -c links || true",
        ]);
        assert.equal(said, "written\n0");
      });
    });
  }
});
