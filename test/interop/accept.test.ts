/**
 * What we save is accepted by others: dockerd loads and runs it, skopeo reads and converts it, umoci unpacks it; and what
 * they save we load. The image has several layers of our own making: renamed and removed directories, links, devices, foreign
 * owners, file capabilities.
 */
import assert from "node:assert/strict";
import { chownSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Docker, sharedDocker } from "../support/dockerd.ts";
import { type FlatTree, treeDifferences } from "../support/flat-tree.ts";
import { type ArchivedImage, diffIdsOf, readOneImage, treeOf } from "../support/image-archive.ts";
import { missingTools, runTool, skopeo } from "../support/oci-tools.ts";
import { baseArchive } from "./base-image.ts";
import { OurSide, treeOfDirectory } from "./our-side.ts";

const dockerfile = `
FROM base
ENV GREETING="from the image"
RUN mv /srv/many/one /srv/uno && rm -r /srv/many/two && mkdir /srv/many/two && echo new > /srv/many/two/new.txt
RUN chown -R app:staff /srv/many && chmod 700 /opt/capable && ln /opt/links/one /opt/links/four
RUN rm /opt/fifo && mkdir /opt/fifo && mknod /opt/zero c 1 5 && ln -s /srv/uno /uno && touch -d @500000000 /old
COPY --chown=1234:4321 greet.sh /usr/bin/greet
WORKDIR /srv/uno
USER app
LABEL purpose="to be accepted"
ENTRYPOINT ["greet"]
CMD ["default", "words"]
`;
const greet = `#!/bin/sh
echo "$GREETING: $*; $(id -u):$(id -g) in $(pwd)"; cat a.txt /srv/many/two/*; ls /srv/many
`;
const greeting = (words: string): string => `from the image: ${words}; 1000:1001 in /srv/uno\none a\nnew\nthree\ntwo\n`;

const emptyFile = "file 0 e3b0c44298fc1c14";

const base = baseArchive();
const ours = typeof base === "string" ? base : await OurSide.open();
const docker = typeof ours === "string" ? ours : await sharedDocker();

describe("what we save is accepted", { skip: typeof ours === "string" ? ours : false }, () => {
  const our = ours as OurSide;
  let image: ArchivedImage;
  let tree: FlatTree;
  let archivePath: string;
  let id: string;

  before(async () => {
    await our.load(base as Buffer);
    const context = mkdtempSync(join(our.directory, "context-"));
    writeFileSync(join(context, "Dockerfile"), dockerfile);
    writeFileSync(join(context, "greet.sh"), greet, { mode: 0o755 });
    await our.build("accepted", { context });
    archivePath = join(our.directory, "accepted.tar");
    await our.engine.save({ images: ["accepted"], output: archivePath });
    image = readOneImage(readFileSync(archivePath));
    tree = treeOf(image);
    id = (await our.engine.image("accepted")).id;
  });
  after(() => our[Symbol.asyncDispose]());

  test("the image itself: the archive holds the tree that is mounted", async () => {
    assert.equal(image.id, id);
    assert.deepEqual(image.tags, ["accepted:latest"]);
    assert.deepEqual(treeDifferences(tree, await our.mountedTree("accepted")), []);
  });

  describe("dockerd", { skip: typeof docker === "string" ? docker : false }, () => {
    const dockerd = docker as Docker;

    test("loads the docker archive under its ID, runs it, and saves the same layers", () => {
      assert.match(dockerd.text(["load", "-i", archivePath]), /Loaded image: accepted:latest/);
      assert.equal(dockerd.text(["inspect", "-f", "{{.Id}}", "accepted"]), id);
      const run = (...args: string[]): string =>
        dockerd.run(["run", "--rm", "--network=none", "accepted", ...args]).toString();
      assert.equal(run(), greeting("default words"));
      assert.equal(run("other"), greeting("other"));
      const saved = readOneImage(dockerd.run(["save", "accepted"]));
      assert.equal(saved.id, id);
      assert.deepEqual(diffIdsOf(saved), diffIdsOf(image));
      assert.deepEqual(treeDifferences(treeOf(saved), tree), []);
    });

    test("loads several images of one archive that share layers", async () => {
      await our.engine.tag("accepted", "team/app:1.0");
      await our.engine.tag("accepted", "team/app:edge");
      const path = join(our.directory, "several.tar");
      await our.engine.save({ images: ["base", "team/app:1.0", "team/app:edge"], output: path });
      const loaded = dockerd.text(["load", "-i", path]).split("\n").sort();
      assert.deepEqual(
        loaded,
        ["base:latest", "team/app:1.0", "team/app:edge"].map((name) => `Loaded image: ${name}`),
      );
      assert.equal(dockerd.text(["inspect", "-f", "{{.Id}}", "team/app:edge"]), id);
    });

    test("builds on it", async () => {
      const context = mkdtempSync(join(our.directory, "context-"));
      writeFileSync(
        join(context, "Dockerfile"),
        "FROM accepted\nUSER root\nRUN rm -r /srv/uno/deep && touch /srv/many/x\n",
      );
      await dockerd.build(context, ["-t", "on-top"]);
      const saved = dockerd.run(["save", "on-top"]);
      assert.equal(await our.load(saved), readOneImage(saved).id);
      assert.deepEqual(treeDifferences(await our.mountedTree("on-top"), treeOf(readOneImage(saved))), []);
    });

    test("saves images that we load with the same IDs and save with the same layers", async () => {
      const saved = dockerd.run(["save", "accepted"]);
      await our.engine.removeImage("team/app:1.0", { force: true });
      await our.engine.removeImage("team/app:edge", { force: true });
      await our.engine.removeImage("accepted", { force: true });
      assert.equal(await our.load(saved), id);
      assert.deepEqual((await our.saved("accepted")).layers.map(String), image.layers.map(String));
    });
  });

  describe("skopeo", { skip: missingTools("skopeo") ?? false }, () => {
    for (const compression of ["none", "gzip", "zstd"] as const) {
      test(`reads and converts an OCI archive, its layers ${compression}`, async () => {
        const path = join(our.directory, `oci-${compression}.tar`);
        await our.engine.save({ images: ["accepted"], output: path, format: "oci-archive", compression });
        const config = JSON.parse(skopeo("inspect", "--config", `oci-archive:${path}`));
        assert.deepEqual(config, image.config);
        const told = JSON.parse(skopeo("inspect", `oci-archive:${path}`));
        assert.equal(told.Architecture, image.config.architecture);
        assert.equal(told.Labels.purpose, "to be accepted");
        assert.equal(told.Layers.length, image.layers.length);
        // skopeo 1.9 has no way from zstd to Docker's archives; copying verifies the blobs all the same.
        const kind = compression === "zstd" ? "oci-archive" : "docker-archive";
        const converted = join(our.directory, `converted-${compression}.tar`);
        skopeo("copy", "-q", `oci-archive:${path}`, `${kind}:${converted}:converted:${compression}`);
        const back = readFileSync(converted);
        if (kind === "docker-archive") {
          assert.equal(readOneImage(back).id, id);
          assert.deepEqual(readOneImage(back).layers.map(String), image.layers.map(String));
        }
        assert.equal(await our.load(back), id);
      });
    }

    test("reads our docker archive and OCI layout", async () => {
      assert.deepEqual(JSON.parse(skopeo("inspect", "--config", `docker-archive:${archivePath}`)), image.config);
      const layout = join(our.directory, "layout");
      await our.engine.save({ images: ["accepted"], output: layout, format: "oci-layout" });
      assert.deepEqual(JSON.parse(skopeo("inspect", "--config", `oci:${layout}`)), image.config);
    });

    test("writes OCI archives and layouts that we load", async () => {
      for (const kind of ["oci-archive", "oci"]) {
        const path = join(our.directory, `by-skopeo-${kind}`);
        skopeo("copy", "-q", `docker-archive:${archivePath}`, `${kind}:${path}:again:${kind}`);
        const [loaded] = await our.engine.load({ input: path });
        assert.deepEqual((await our.saved(String(loaded?.id))).layers.map(String), image.layers.map(String));
      }
    });
  });

  describe("umoci", { skip: missingTools("umoci", "setpriv") ?? false }, () => {
    let layout: string;
    before(async () => {
      layout = join(our.directory, "for-umoci");
      await our.engine.save({ images: ["accepted"], output: layout, format: "oci-layout" });
    });

    test("unpacks the tree", () => {
      const bundle = join(our.directory, "bundle");
      runTool("umoci", ["unpack", "--image", `${layout}:latest`, bundle]);
      assert.deepEqual(treeDifferences(treeOfDirectory(join(bundle, "rootfs")), tree), []);
    });

    test("unpacks the tree without root, but for owners and devices", () => {
      const home = join(our.directory, "rootless");
      mkdirSync(home);
      chownSync(home, 65534, 65534);
      runTool("chmod", ["755", our.directory]);
      const bundle = join(home, "bundle");
      const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
      runTool("setpriv", [...nobody, "umoci", "unpack", "--rootless", "--image", `${layout}:latest`, bundle], home);
      assert.deepEqual(rootless(treeOfDirectory(join(bundle, "rootfs"))), rootless(tree));
    });
  });
});

/** What of a tree someone without privileges can have: no owners or capabilities, and an empty file for a device. */
function rootless(tree: FlatTree): Record<string, string> {
  const seen = [...tree].map(([path, { type, mode, target, content }]) => {
    const isDevice = type === "char" || type === "block";
    const what = isDevice ? emptyFile : `${type} ${content}`;
    return [path, `${what} ${type === "symlink" ? target : (mode & 0o777).toString(8)}`];
  });
  return Object.fromEntries(seen.sort());
}
