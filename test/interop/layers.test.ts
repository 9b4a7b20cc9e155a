/**
 * Layers written by Docker and by us apply to the same trees on both sides. Trees are read from what the kernel mounts:
 * on Docker's side by `docker export`, on ours by GNU tar.
 */
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Docker, sharedDocker } from "../support/dockerd.ts";
import { type FlatTree, flatten, treeDifferences } from "../support/flat-tree.ts";
import { dockerArchive, readOneImage, type TarMember, tarOf, treeOf } from "../support/image-archive.ts";
import { baseArchive, baseName } from "./base-image.ts";
import { OurSide, treeOfDirectory } from "./our-side.ts";

/** What dockerd puts over a container's root before it starts: no part of the image. */
const initLayer = /^(\.dockerenv|dev|dev\/(console|pts|shm)|etc\/(hostname|hosts|mtab|resolv\.conf)|etc|proc|sys): /;

/** Changes that make every kind of whiteout, opaque directory, link and replacement, one layer each. */
const trickyChanges: Record<string, string> = {
  removed: "rm -rf srv/many/one srv/config.ini opt/fifo srv/dangling",
  emptied: "rm -rf srv/many/two && mkdir srv/many/two && echo new > srv/many/two/new.txt",
  "opaque in opaque": "rm -rf srv/many && mkdir -p srv/many/two/deep && echo d > srv/many/two/deep/e.txt",
  refilled: "rm -rf srv/many && mkdir srv/many && mkdir srv/many/one && rmdir srv/many/one && touch srv/many/.hidden",
  renamed: "mv srv/many/one srv/many/uno && mv srv/many/two srv/two && mv srv/config.ini opt/",
  "renamed twice": "mv srv/many a && mv a/two a/one/inner && mv a b && echo x > b/one/inner/x && rm b/one/inner/a.txt",
  "renamed and replaced":
    "mv srv/many/one /tmp/$$.one && mv /tmp/$$.one srv/many/one && mv srv/many srv/lots && mkdir srv/many",
  "swapped kinds":
    "rm -rf srv/many/one && echo file > srv/many/one && rm srv/config.ini && mkdir srv/config.ini && rm srv/current && mkdir srv/current",
  "hard links":
    "ln srv/config.ini srv/hard && ln srv/hard opt/hard && rm opt/links/one && ln opt/links/two srv/many/linked",
  "written through links": "echo more >> opt/links/two && touch -d @400000000 opt/links/three",
  "changed owners": "chown -R 1000:50 srv && chown -h 7 srv/current && chmod -R o-rx srv/many/three",
  "special files": "mknod opt/zero c 1 5 && mkfifo run/pipe && chmod 4711 srv/config.ini && mkdir -m 3777 opt/both",
  capabilities: "cp -p --preserve=all opt/capable opt/again && chmod 700 opt/capable",
  "old times": "touch -d @1 srv/config.ini && touch -d @300000000 srv/many/one && touch -h -d @200000000 srv/current",
};

const base = baseArchive();
const docker = typeof base === "string" ? base : await sharedDocker();
const ours = typeof docker === "string" ? docker : await OurSide.open();
const reason = typeof ours === "string" ? ours : undefined;

describe("layers on both sides", { skip: reason }, () => {
  const dockerd = docker as Docker;
  const our = ours as OurSide;
  const startedSec = Math.floor(Date.now() / 1000);

  before(async () => {
    dockerd.run(["load"], { input: base as Buffer });
    await our.load(base as Buffer);
  });
  after(() => our[Symbol.asyncDispose]());

  function dockerTree(image: string): FlatTree {
    const container = dockerd.text(["create", "--network=none", image, "none"]);
    try {
      return flatten([dockerd.run(["export", container])]);
    } finally {
      dockerd.run(["rm", container]);
    }
  }

  function same(left: FlatTree, right: FlatTree): void {
    assert.deepEqual(treeDifferences(left, right, { recentSec: startedSec, except: initLayer }), []);
  }

  test("the base image", async () => {
    same(await our.mountedTree(baseName), dockerTree(baseName));
  });

  test("layers written by Docker", async () => {
    const context = mkdtempSync(join(our.directory, "context-"));
    const steps = Object.values(trickyChanges).map((script) => JSON.stringify(["sh", "-euc", adapted(script)]));
    for (const [i, step] of steps.entries()) {
      writeFileSync(join(context, "Dockerfile"), `FROM ${baseName}\nRUN ${step}\n`);
      await dockerd.build(context, ["-t", `docker-${i}`]);
      const archive = dockerd.run(["save", `docker-${i}`]);
      assert.equal(await our.load(archive), readOneImage(archive).id);
      const mounted = await our.mountedTree(`docker-${i}`);
      same(mounted, dockerTree(`docker-${i}`));
      same(mounted, treeOf(readOneImage(archive)));
    }
  });

  test("layers written by us", async () => {
    for (const [name, script] of Object.entries(trickyChanges)) {
      const tag = `ours-${name.replaceAll(" ", "-")}`;
      await our.change(baseName, `${tag}:below`, script);
      await our.change(`${tag}:below`, tag, "touch after");
      const archive = await our.saveDockerArchive(tag);
      dockerd.run(["load"], { input: archive });
      const mounted = await our.mountedTree(tag);
      same(mounted, dockerTree(tag));
      same(mounted, treeOf(readOneImage(archive)));
    }
  });

  test("all changes on top of each other", async () => {
    let image = baseName;
    for (const [i, script] of Object.values(trickyChanges).entries()) {
      // What an earlier change took away fails here: each script goes as far as it comes.
      await our.change(image, `stack-${i}`, `sh -euc '${script}' 2>/dev/null || true`);
      image = `stack-${i}`;
    }
    const archive = await our.saveDockerArchive(image);
    dockerd.run(["load"], { input: archive });
    const mounted = await our.mountedTree(image);
    same(mounted, dockerTree(image));
    same(mounted, treeOf(readOneImage(archive)));
  });

  /** An image of the base and one layer made by hand, loaded on our side. */
  async function byHand(name: string, members: readonly TarMember[]): Promise<Buffer> {
    const { config, layers } = readOneImage(base as Buffer);
    const history = [...(config.history as unknown[]), { created_by: name }];
    const archive = dockerArchive({
      config: { ...config, history },
      layers: [...layers, tarOf(members)],
      tags: [`${name}:latest`],
    });
    await our.load(archive);
    return archive;
  }

  test("a layer that removes and replaces by hand", async () => {
    const archive = await byHand("by-hand", [
      { name: "./srv/", type: "directory", uid: 33, gid: 33 },
      { name: "srv/many/", type: "directory", mode: 0o711 },
      { name: "srv/many/.wh..wh..opq" },
      { name: "srv/many/one", content: "a file now\n" },
      { name: "srv/.wh.config.ini" },
      { name: "srv/.wh.never-was" },
      { name: "srv/current/", type: "directory" },
      { name: "opt/", type: "directory" },
      { name: "opt/links/", type: "directory" },
      { name: "opt/links/two", type: "symlink", linkName: "one" },
      { name: "opt/setuid", type: "hardlink", linkName: "srv/many/one" },
    ]);
    dockerd.run(["load"], { input: archive });
    const mounted = await our.mountedTree("by-hand");
    same(mounted, treeOf(readOneImage(archive)));
    same(mounted, dockerTree("by-hand"));
  });

  // `docker export` and its diffs leave them out, so this looks at the directory Docker unpacked the layer to.
  test("extended attributes of every kind arrive on both sides", async () => {
    const xattrs = { "user.note": Buffer.from("\0\xffbinary", "latin1"), "trusted.note": Buffer.from("kept") };
    const archive = await byHand("attributes", [
      { name: "noted", content: "x", xattrs },
      { name: "noted.d/", type: "directory", xattrs },
    ]);
    dockerd.run(["load"], { input: archive });
    const upper = dockerd.text(["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "attributes"]);
    const seen = (tree: FlatTree): string[] => ["noted", "noted.d"].map((path) => tree.get(path)?.xattrs ?? "missing");
    const mounted = seen(await our.mountedTree("attributes"));
    assert.deepEqual(mounted, seen(treeOf(readOneImage(archive))));
    assert.deepEqual(mounted, seen(treeOfDirectory(upper)));
    assert.match(mounted[0] ?? "", /user\.note=00ff/);
  });

  // Docker 20.10's native apply leaves the directory transparent: what was below shines through.
  test("a whiteout followed by a directory of that name hides what was below (Docker shows it)", async (t) => {
    const archive = await byHand("whiteout-then-directory", [
      { name: "srv/.wh.many" },
      { name: "srv/many/", type: "directory" },
      { name: "srv/many/new.txt", content: "new\n" },
    ]);
    const mounted = await our.mountedTree("whiteout-then-directory");
    same(mounted, treeOf(readOneImage(archive)));
    assert.deepEqual(
      [...mounted.keys()].filter((path) => path.startsWith("srv/many/")),
      ["srv/many/new.txt"],
    );
    dockerd.run(["load"], { input: archive });
    t.diagnostic(
      `Docker shows ${treeDifferences(mounted, dockerTree("whiteout-then-directory")).length} paths otherwise`,
    );
  });

  // Docker 20.10's native apply fails here.
  test("a hard link to a file of a lower layer (Docker cannot load it)", async () => {
    const archive = await byHand("link-to-lower", [{ name: "srv/again", type: "hardlink", linkName: "opt/setuid" }]);
    const mounted = await our.mountedTree("link-to-lower");
    same(mounted, treeOf(readOneImage(archive)));
    assert.equal(mounted.get("srv/again")?.mode, 0o4755);
  });
});

/** A change for busybox in a container, whose shell starts in the root: no GNU options, and /tmp is on the same overlay. */
function adapted(script: string): string {
  return `cd /; ${script.replaceAll("cp -p --preserve=all", "cp -p")}`;
}
