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
import { driverFactories } from "../../src/drivers/open-driver.ts";
import { Engine } from "../../src/engine/engine.ts";
import { Docker } from "../support/dockerd.ts";
import { readDockerArchive } from "../support/image-archive.ts";
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
function stateOf(docker: Docker): { readonly saved: readonly unknown[]; readonly listed: string } {
  const saved = readDockerArchive(docker.run(["save", ...tags])).map(({ id, tags, layers }) => ({
    id,
    tags,
    layers: layers.map((layer) => layer.length),
  }));
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

  test("setting up a root", async () => {
    mkdirSync(source);
    before = await withDocker("overlay2", source, async (docker) => {
      await fill(docker);
      boxTree = docker.text(["diff", "box"]);
      return stateOf(docker);
    });
  });

  for (const [ours, theirs] of [
    ["overlay2", "vfs"],
    ["vfs", "overlay2"],
    ["btrfs", "vfs"],
  ] as const) {
    if (!driverFactories.has(ours)) continue;
    test(`overlay2 → ${ours} → ${theirs}`, async () => {
      const root = join(directory, `store-${ours}`);
      const target = join(directory, `docker-from-${ours}`);
      {
        await using engine = await Engine.open({ root, driver: ours });
        const report = await engine.migrateFromDocker({ root: source });
        assert.deepEqual(report.leftOut, []);
        assert.equal(report.containers.length, 2);
        assert.equal(report.layers.made, report.layers.count);
        const saved = readDockerArchive(await saveAll(engine)).map(({ id }) => id);
        assert.deepEqual(saved.sort(), before.saved.map((image) => (image as { id: string }).id).sort());
        assert.deepEqual((await engine.check({ deep: true })).findings, []);
        const changes = (await engine.diff("box")).map(({ kind, path }) => `${kind} ${path}`);
        assert.deepEqual(changes.sort(), boxTree.split("\n").sort());
        const back = await engine.migrateToDocker({ root: target, dockerDriver: theirs });
        assert.deepEqual(back.leftOut, []);
        assert.equal(back.layers.made, report.layers.count);
      }
      await withDocker(theirs, target, (docker) => {
        assert.deepEqual(stateOf(docker), before);
        const said = docker.text(["run", "--rm", "--network=none", "app:1", "sh", "-c", "cat srv; ls opt"]);
        assert.match(said, /^file\n/);
      });
    });
  }
});
