/** `lamella doctor` for real: on this machine as it is, without root, and on a dockerd whose overlayfs leaves redirects. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  truncateSync,
  utimesSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Diagnosis, examine } from "../../src/doctor/doctor.ts";
import type { DockerData } from "../../src/doctor/facts.ts";
import { CliLab } from "../e2e/cli-harness.ts";
import { Docker } from "../support/dockerd.ts";
import { tarOf } from "../support/image-archive.ts";
import { LoopDevices, run } from "../support/loop-devices.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { ownParameters, parametersFixed, withParameter } from "../support/overlay-parameters.ts";

ownParameters();
const lab = new CliLab();
after(() => lab[Symbol.dispose]());

test("this machine as it is: no false alarm, and every engine is spoken of", () => {
  const { status, stdout, stderr } = lab.lamella("doctor");
  assert.equal(status, 0, stdout + stderr);
  assert.equal(stderr, "");
  for (const line of [/^Host +Linux /m, /^Overlay /m, /^Docker +\S/m, /^podman +\S/m, /^containerd +\S/m])
    assert.match(stdout, line);
  assert.match(stdout, /^Lamella +none found$/m);
  assert.match(stdout, /^Diagnosis: nothing wrong found/m);
  assert.equal(existsSync(lab.root), false, "no store is made");
  const diagnosis: Diagnosis = JSON.parse(lab.ok("doctor", "--json"));
  assert.deepEqual([diagnosis.schema, diagnosis.healthy], [1, true]);
});

test("without root: the same, and what could not be seen is said", { skip: process.getuid?.() !== 0 }, () => {
  using other = new CliLab({ uid: 65_534 });
  const { status, stdout, stderr } = other.lamella("doctor", "/root/not-mine");
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /Not seen:\n(.*\n)* {2}\/root\/not-mine: /);
});

test("a store of one's own, found sound", (t) => {
  const unsupported = lab.unsupported();
  if (unsupported !== undefined) return t.skip(unsupported);
  lab.importBase(20);
  const { facts, healthy }: Diagnosis = JSON.parse(lab.ok("doctor", "--json"));
  assert.ok(healthy);
  assert.equal(facts.lamella[0]?.root, lab.root);
  assert.equal(facts.lamella[0]?.drivers.length, 1);
});

async function withRedirects<T>(value: "Y" | "N", use: () => Promise<T>): Promise<T> {
  using _redirects = withParameter("redirect_dir", value);
  return await use();
}

/** The diagnosis of one daemon, and nothing else of this host. */
function examineDaemon(docker: Docker): Promise<Diagnosis> {
  return examine({ uid: 0, env: { DOCKER_HOST: `unix://${docker.socket}` }, onlyRoots: true });
}

test("a real dockerd: naive with redirects, native without, wrong when they come while it runs", async (t) => {
  const fixed = parametersFixed();
  if (fixed !== undefined) return t.skip(fixed);
  const [slow, naive] = await withRedirects("Y", async () => {
    const docker = await Docker.start();
    return [docker, typeof docker === "string" ? undefined : await examineDaemon(docker)] as const;
  });
  if (typeof slow === "string" || naive === undefined) return t.skip(String(slow));
  const laterNative = await withRedirects("N", () => examineDaemon(slow)).finally(() => slow.stop());

  const [found] = naive.findings;
  assert.equal(found?.id, "naive-diff-redirect-dir");
  assert.match(found.sentence, /redirect_dir on/);
  assert.match(found.subject, /^Docker [0-9]\S+ \(/);
  const said = found.evidence.map((one) => one.said).join("\n");
  assert.match(said, /Native Overlay Diff: false\nY\nN\na renamed directory left a redirect/);
  assert.equal(laterNative.findings[0]?.id, "overlay-changed-since-start");
  assert.equal(laterNative.findings[0]?.severity, "warning");

  const [fast, native] = await withRedirects("N", async () => {
    const docker = await Docker.start();
    return [docker, typeof docker === "string" ? undefined : await examineDaemon(docker)] as const;
  });
  if (typeof fast === "string" || native === undefined) return assert.fail(String(fast));
  try {
    assert.ok(native.healthy, JSON.stringify(native.findings));
    const ids = native.findings.map(({ id }) => id);
    assert.ok(ids.includes("docker-diff-naive") && ids.includes("directory-rename-exdev"), ids.join(", "));
    const [docker] = native.facts.docker;
    assert.equal(docker?.driver, "overlay2");
    assert.match(docker?.asked?.source ?? "", /^arguments of dockerd/);
    const laterNaive = await withRedirects("Y", () => examineDaemon(fast));
    assert.equal(laterNaive.findings[0]?.id, "overlay-changed-since-start");
    assert.equal(laterNaive.findings[0]?.severity, "error");
    cliSays(fast);
  } finally {
    await fast.stop();
  }
});

/** What the command prints of a daemon found sound, and to somebody who may not talk to it. */
function cliSays(docker: Docker): void {
  chmodSync(docker.directory, 0o755);
  using nobody = new CliLab({ uid: 65_534, env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const unprivileged = nobody.lamella("doctor", "--only", join(docker.directory, "data"));
  assert.equal(unprivileged.status, 0, unprivileged.stdout + unprivileged.stderr);
  const unseen = /^Not seen:\n[\s\S]*/m.exec(unprivileged.stdout)?.[0] ?? "";
  assert.match(unseen, /docker\.sock: you may not talk to this daemon$/m);
  assert.match(unseen, /data\/image: only root may read it$/m);
  using other = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const { status, stdout } = other.lamella("doctor", "--only");
  assert.equal(status, 0, stdout);
  assert.match(stdout, /^Docker +[0-9][^ ,]+, overlay2, native diff: true; /m);
  assert.match(stdout, /^Diagnosis: nothing wrong found, [0-9] notes$/m);
  assert.match(stdout, /^note docker-diff-naive Docker /m);
}

test("a real data root with images and containers: nothing is taken for an orphan, and what is one is found", async (t) => {
  const docker = await Docker.start();
  if (typeof docker === "string") return t.skip(docker);
  const root = join(docker.directory, "data");
  try {
    docker.run(["import", "-", "base"], { input: execFileSync("tar", ["-C", import.meta.dirname, "-c", "."]) });
    docker.run(["create", "--name", "made", "base", "/nothing"]);
    docker.run(["commit", "made", "second"]);
    docker.run(["create", "second", "/nothing"]);
    const dataOf = async (): Promise<DockerData | undefined> => (await examineDaemon(docker)).facts.docker[0]?.data;
    const { driver, deepestChain, orphans, missing, brokenLinks, emptyMetadata } = (await dataOf()) ?? {};
    assert.equal(driver, "overlay2");
    assert.ok((deepestChain ?? 0) >= 1);
    assert.deepEqual([orphans?.count, missing?.count, brokenLinks?.count, emptyMetadata?.count], [0, 0, 0, 0]);
    // All layers look old: none of them is left out for being young.
    for (const name of readdirSync(join(root, "overlay2"))) utimesSync(join(root, "overlay2", name), 1, 1);
    const orphan = join(root, "overlay2", "0".repeat(64));
    mkdirSync(join(orphan, "diff"), { recursive: true });
    utimesSync(orphan, 1, 1);
    assert.deepEqual((await dataOf())?.orphans.examples, [`overlay2/${"0".repeat(64)}`]);
    rmSync(orphan, { recursive: true });
    assert.equal((await dataOf())?.orphans.count, 0);
    // What a power cut does to files that were not flushed.
    docker.run(["import", "-", "library"], { input: tarOf([{ name: "usr/lib/libx.so.1", content: "code" }]) });
    assert.equal((await dataOf())?.hollowFiles.count, 0);
    const upper = docker.text(["image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "library"]);
    truncateSync(join(upper, "usr/lib/libx.so.1"));
    assert.match((await dataOf())?.hollowFiles.examples.join("\n") ?? "", /libx\.so\.1 is empty, and had 4 bytes$/);
  } finally {
    await docker.stop();
  }
});

test("a real dockerd on vfs: findings, and exit status 3", async (t) => {
  const docker = await Docker.start({ driver: "vfs" });
  if (typeof docker === "string") return t.skip(docker);
  try {
    using other = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
    const { status, stdout } = other.lamella("doctor", "--only");
    assert.equal(status, 3, stdout);
    assert.match(stdout, /^warning naive-diff-driver Docker /m);
    const oneLine = stdout.replace(/\s+/g, " ");
    assert.match(oneLine, / seen docker -H unix:\S+ info: Storage Driver: vfs cost Every layer is a whole copy/);
    assert.match(oneLine, / cure use overlay2: .*\(overlayfs was tried here and works\)/);
    assert.match(other.lamella("doctor", "--only", "-q").stdout, /^naive-diff-driver\n/);
  } finally {
    await docker.stop();
  }
});

test("a data root on an ext4 that does not tell the types of names", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("loop devices need root");
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using loops = new LoopDevices();
  const device = loops.attach(32);
  run("mkfs.ext4", "-q", "-O", "^filetype", device);
  const root = mkdtempSync(join(tmpdir(), "lamella-doctor-"));
  run("mount", device, root);
  try {
    mkdirSync(join(root, "image/overlay2/layerdb/sha256", "a".repeat(64)), { recursive: true });
    const { findings, facts } = await examine({ uid: 0, env: {}, onlyRoots: true, roots: [root] });
    assert.equal(facts.roots[root]?.device, device);
    const found = findings.find(({ id }) => id === "d-type-missing");
    assert.equal(found?.severity, "error");
    assert.match(found.evidence[0]?.said ?? "", /types are missing \(extfs\)/);
  } finally {
    run("umount", root);
    rmdirSync(root);
  }
});

test("usage", () => {
  assert.equal(lab.lamella("doctor", "--onyl").status, 2);
  assert.match(lab.ok("doctor", "--help"), /Exits 0 when all is well, 3 with findings, 1 when it failed/);
});
