/** Docker's data root: what is orphaned, lost, broken or too deep in made ones. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { DockerData } from "../../src/doctor/facts.ts";
import { MadeHost } from "./made-host.ts";

const root = "/var/lib/docker";
const hex = (text: string): string => createHash("sha256").update(text).digest("hex");
const short = (name: string): string => name.toUpperCase().padEnd(26, "X");

/** A data root with a chain of layers `l1`, `l2` ... on overlay2, and one container on the last. */
function makeRoot(host: MadeHost, depth: number): void {
  for (let i = 1; i <= depth; i++) addLayer(host, `l${i}`, i > 1 ? `l${i - 1}` : undefined);
  const mounts = `${root}/image/overlay2/layerdb/mounts/${hex("container")}`;
  host.write({ [`${mounts}/mount-id`]: hex("top"), [`${mounts}/init-id`]: `${hex("top")}-init` });
  for (const id of [hex("top"), `${hex("top")}-init`]) addDirectory(host, id, id.slice(-10).replace("-", "Q"));
}

function addLayer(host: MadeHost, name: string, parent: string | undefined): void {
  const at = `${root}/image/overlay2/layerdb/sha256/${hex(`chain ${name}`)}`;
  host.write({ [`${at}/cache-id`]: hex(name), [`${at}/diff`]: `sha256:${hex("diff")}`, [`${at}/size`]: "1" });
  if (parent !== undefined) host.write({ [`${at}/parent`]: `sha256:${hex(`chain ${parent}`)}` });
  addDirectory(host, hex(name), name, parent);
}

function addDirectory(host: MadeHost, id: string, name: string, parent?: string): void {
  host.directory(`${root}/overlay2/${id}/diff`);
  host.write({ [`${root}/overlay2/${id}/link`]: short(name) });
  if (parent !== undefined) host.write({ [`${root}/overlay2/${id}/lower`]: `l/${short(parent)}` });
  host.link(`../${id}/diff`, `${root}/overlay2/l/${short(name)}`);
  host.age(`${root}/overlay2/${id}`);
}

async function dataOf(host: MadeHost): Promise<DockerData> {
  const { docker } = await host.facts();
  assert.ok(docker[0]?.data);
  return docker[0].data;
}

const idsOf = async (host: MadeHost): Promise<string[]> => diagnose(await host.facts()).map(({ id }) => id);

test("a data root where all is well, of a daemon that does not run", async () => {
  await using host = new MadeHost();
  makeRoot(host, 3);
  const { docker } = await host.facts();
  assert.equal(docker[0]?.running, false);
  assert.equal(docker[0]?.driver, "overlay2");
  assert.deepEqual(docker[0]?.data, {
    drivers: [{ driver: "overlay2", layers: 3 }],
    driver: "overlay2",
    deepestChain: 3,
    orphans: { count: 0, examples: [], sizeBytes: 0, sizeIsAtLeast: false },
    missing: { count: 0, examples: [] },
    emptyMetadata: { count: 0, examples: [] },
    brokenLinks: { count: 0, examples: [] },
    hollowFiles: { count: 0, examples: [] },
  });
  assert.deepEqual(await idsOf(host), ["docker-diff-naive"]);
});

test("orphans: counted with their bytes; BuildKit's and young ones are not", async () => {
  await using host = new MadeHost();
  makeRoot(host, 2);
  addDirectory(host, hex("orphan"), "orphan");
  host.write({ [`${root}/overlay2/${hex("orphan")}/diff/file`]: Buffer.alloc(100_000, 1) });
  addDirectory(host, "abcdefghijklmnopqrstuvwx9", "buildkit");
  addDirectory(host, hex("cached"), "cached");
  host.write({ [`${root}/buildkit/metadata_v2.db`]: `\0\0${hex("cached")}\0` });
  host.directory(`${root}/overlay2/${hex("young")}`);
  const { orphans } = await dataOf(host);
  assert.deepEqual(orphans.examples, [`overlay2/${hex("orphan")}`]);
  assert.equal(orphans.count, 1);
  assert.ok(orphans.sizeBytes >= 100_000 && orphans.sizeBytes < 200_000, String(orphans.sizeBytes));
  assert.deepEqual(await idsOf(host), ["orphan-layers", "docker-diff-naive"]);
});

test("where layers have lost their metadata, nothing is called an orphan", async () => {
  await using host = new MadeHost();
  makeRoot(host, 2);
  addDirectory(host, hex("orphan"), "orphan");
  truncateSync(join(host.prefix, `${root}/image/overlay2/layerdb/sha256/${hex("chain l1")}/cache-id`));
  const { orphans, emptyMetadata } = await dataOf(host);
  assert.equal(orphans.count, 0);
  assert.equal(emptyMetadata.count, 1);
  assert.ok((await idsOf(host)).includes("layer-metadata-empty"));
});

test("a layer whose directory was removed", async () => {
  await using host = new MadeHost();
  makeRoot(host, 2);
  rmSync(join(host.prefix, `${root}/overlay2/${hex("l2")}`), { recursive: true });
  const { missing } = await dataOf(host);
  assert.equal(missing.count, 1);
  assert.match(missing.examples[0] ?? "", new RegExp(`no overlay2/${hex("l2")}$`));
});

test("link and lower files that lead nowhere", async () => {
  const breaks: [(at: (path: string) => string) => void, RegExp][] = [
    [(at) => truncateSync(at(`${hex("l1")}/link`)), /link is missing or empty$/],
    [(at) => writeFileSync(at(`${hex("l1")}/link`), "\0".repeat(26)), /link is not a short name$/],
    [(at) => truncateSync(at(`${hex("l2")}/lower`)), /lower is empty$/],
    [(at) => writeFileSync(at(`${hex("l2")}/lower`), "l/:l/"), /lower names l\/, which is missing$/],
    [(at) => rmSync(at(`l/${short("l2")}`)), /l\/L2X+ is missing$/],
    [(at) => writeFileSync(at(`${hex("l2")}/link`), short("l1")), /does not lead to/],
  ];
  for (const [breakIt, says] of breaks) {
    await using host = new MadeHost();
    makeRoot(host, 2);
    breakIt((path) => join(host.prefix, root, "overlay2", path));
    const { brokenLinks } = await dataOf(host);
    assert.equal(brokenLinks.count, 1);
    assert.match(brokenLinks.examples[0] ?? "", says);
    assert.ok((await idsOf(host)).includes("layer-links-broken"));
  }
});

test("chains near the limit, several drivers, a data root that everybody may enter", async () => {
  await using host = new MadeHost();
  makeRoot(host, 126);
  assert.equal((await dataOf(host)).deepestChain, 126);
  host.write({ [`${root}/image/aufs/layerdb/sha256/${hex("old")}/cache-id`]: "x" });
  host.write({ "/etc/docker/daemon.json": '{"storage-driver": "overlay2"}' });
  // Everybody may enter the made host, and so what is above the data root does not protect it.
  chmodSync(host.prefix, 0o755);
  chmodSync(join(host.prefix, root), 0o711);
  const { docker } = await host.facts();
  assert.equal(docker[0]?.data?.driver, "overlay2", "as it is configured");
  assert.deepEqual(docker[0]?.data?.drivers, [
    { driver: "aufs", layers: 1 },
    { driver: "overlay2", layers: 126 },
  ]);
  assert.deepEqual(docker[0]?.asked, { driver: "overlay2", source: "/etc/docker/daemon.json" });
  const severe = ["layer-limit-near", "several-drivers", "root-open-to-others"];
  assert.deepEqual(await idsOf(host), [...severe, "docker-diff-naive"]);
});

test("loop-lvm by its file", async () => {
  await using host = new MadeHost();
  host.write({
    [`${root}/image/devicemapper/layerdb/sha256/${hex("chain")}/cache-id`]: hex("x"),
    [`${root}/image/devicemapper/layerdb/sha256/${hex("chain")}/diff`]: "x",
    [`${root}/image/devicemapper/layerdb/sha256/${hex("chain")}/size`]: "1",
    [`${root}/devicemapper/devicemapper/data`]: "",
  });
  assert.deepEqual(await idsOf(host), ["naive-diff-driver", "loop-lvm", "driver-deprecated"]);
});

/** A layer's file, with the size that Docker recorded of it. */
function addFile(
  host: MadeHost,
  layer: string,
  name: string,
  file: { readonly recorded: number; readonly content: string },
): void {
  const path = `${root}/overlay2/${hex(layer)}/diff/${name}`;
  host.write({ [path]: file.content });
  chmodSync(join(host.prefix, path), 0o755);
  const record = JSON.stringify({
    type: 1,
    name: `./${name}`,
    size: file.recorded || undefined,
    payload: "x",
    position: 0,
  });
  host.write({
    [`${root}/image/overlay2/layerdb/sha256/${hex(`chain ${layer}`)}/tar-split.json.gz`]: gzipSync(`${record}\n`),
  });
}

test("programs and libraries that lost their content: those alone that Docker recorded bytes of", async () => {
  await using host = new MadeHost();
  makeRoot(host, 4);
  addFile(host, "l1", "usr/lib/x86_64-linux-gnu/libc.so.6", { recorded: 1_926_232, content: "" });
  addFile(host, "l2", "usr/bin/always-empty", { recorded: 0, content: "" });
  addFile(host, "l3", "usr/bin/sound", { recorded: 4, content: "good" });
  addFile(host, "l4", "usr/share/doc/empty", { recorded: 100, content: "" });
  // A link to a directory: what lies there is another's.
  host.link("usr/bin", `${root}/overlay2/${hex("l1")}/diff/bin`);
  const { hollowFiles } = await dataOf(host);
  assert.equal(hollowFiles.count, 1);
  assert.match(hollowFiles.examples[0] ?? "", /libc\.so\.6 is empty, and had 1926232 bytes$/);
  assert.deepEqual(await idsOf(host), ["layer-files-empty", "docker-diff-naive"]);
  host.write({
    [`${root}/image/overlay2/layerdb/sha256/${hex("chain l1")}/tar-split.json.gz`]: "no gzip",
  });
  assert.equal((await dataOf(host)).hollowFiles.count, 0, "without a record nothing is said");
});
