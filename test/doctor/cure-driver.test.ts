/** Cures that change Docker's storage driver, on a real dockerd: vfs to overlay2 in place, and on ZFS in a file. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { realHost } from "../../src/doctor/cures/cure-host.ts";
import type { Plan } from "../../src/doctor/cures/plan.ts";
import { planCure } from "../../src/doctor/cures/planners.ts";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { examine } from "../../src/doctor/doctor.ts";
import type { FindingId } from "../../src/doctor/findings/finding.ts";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { mountAt, sleepSync } from "../../src/fs/mounts.ts";
import { CliLab } from "../e2e/cli-harness.ts";
import { runKilled } from "../support/killed-cure.ts";
import { run } from "../support/loop-devices.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { keepParameters } from "../support/overlay-parameters.ts";
import { PlainDocker } from "../support/plain-dockerd.ts";
import { zfs, zfsPlace } from "../support/zfs-lab.ts";

keepParameters();
const id = "naive-diff-driver";
const settings = '{\n    "log-level": "warn",\n    "storage-driver": "vfs"\n}\n';

/** What must be the same before and after: IDs and names of images, and the content of one. */
function contentsOf(docker: PlainDocker): unknown {
  const images = docker
    .text(["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"])
    .split("\n")
    .sort();
  return { images, volumes: docker.text(["volume", "ls", "-q"]) };
}

function fill(docker: PlainDocker): void {
  docker.importImage("base:1", "mkdir -p etc; echo one > etc/file; ln etc/file etc/again; chown 3:4 etc/file");
  docker.text(["create", "--name", "box", "base:1", "/nothing"]);
  docker.text(["cp", join(import.meta.dirname, "facts.ts"), "box:/etc/new"]);
  docker.text(["commit", "box", "second:2"]);
}

test("vfs to overlay2 in place: images are kept; killed on the way, undone, done, undone, done, ended", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using docker = (await PlainDocker.start({ settings })) as PlainDocker | string as PlainDocker;
  if (typeof docker === "string") return t.skip(docker);
  using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const doctor = (...words: string[]): ReturnType<CliLab["lamella"]> => lab.lamella("doctor", "--only", ...words);
  fill(docker);
  const contents = contentsOf(docker);
  const driver = (): string => docker.text(["info", "-f", "{{.Driver}}"]);

  // Killed when dockerd had been stopped: undo starts it.
  const state = join(lab.directory, "killed");
  const host = realHost();
  const diagnosis = await examine({ uid: 0, env: { DOCKER_HOST: `unix://${docker.socket}` }, onlyRoots: true });
  const plan = await planCure(diagnosis, id, { host, choices: {} });
  assert.ok(plan);
  assert.ok(runKilled({ mode: "apply", plan, state, event: 2 }));
  assert.equal(docker.isUp(), false);
  await undoCure(id, { state, host });
  assert.deepEqual([docker.isUp(), driver()], [true, "vfs"]);

  const fixed = doctor("--fix", id, "--yes");
  assert.equal(fixed.status, 0, fixed.stdout + fixed.stderr);
  assert.match(fixed.stdout, /1 containers \(box\) belong to vfs/);
  assert.match(fixed.stdout, /moved 2 images with 2 layers from vfs to overlay2/);
  assert.match(fixed.stdout, /- {4}"storage-driver": "vfs"\n +\+ {4}"storage-driver": "overlay2"/);
  assert.equal(driver(), "overlay2");
  assert.deepEqual(contentsOf(docker), contents);
  assert.equal(docker.text(["run", "--help"]).length > 0, true);
  docker.text(["create", "--name", "late", "second:2", "/nothing"]);

  const undone = doctor("--undo", id);
  assert.equal(undone.status, 0, undone.stderr);
  assert.match(undone.stdout, /Kept: .*lamella-doctor-undone: what Docker made under overlay2/);
  assert.equal(driver(), "vfs");
  assert.equal(readFileSync(docker.settings, "utf8"), settings);
  assert.deepEqual(contentsOf(docker), contents);
  assert.match(docker.text(["ps", "-a", "--format", "{{.Names}}"]), /^box$/);
  assert.equal(doctor("--fix", id, "--yes").status, 1, "what was kept has to go first");
  assert.equal(doctor("--finish", id).status, 0);
  assert.equal(existsSync(join(docker.root, "lamella-doctor-undone")), false);

  assert.equal(doctor("--fix", id, "--yes", "-q").status, 0);
  const ended = doctor("--finish", id);
  assert.equal(ended.status, 0, ended.stderr);
  assert.equal(existsSync(join(docker.root, "vfs")), false);
  assert.equal(existsSync(join(docker.root, "image/vfs")), false);
  assert.deepEqual(contentsOf(docker), contents);
  await carriedByDocker(docker, join(lab.directory, "archives"));
});

/** For drivers whose layers Docker alone can read, it writes an archive and reads it. */
async function carriedByDocker(docker: PlainDocker, state: string): Promise<void> {
  const { socket } = docker;
  const contents = contentsOf(docker);
  const archive = join(docker.directory, "images.tar");
  const names = ["base:1", "second:2"];
  const plan = (id: FindingId, kind: "save-images" | "load-images"): Plan => {
    const steps = [{ kind, socket, archive, names }];
    return { schema: 1, id, subject: "", summary: "", steps, notes: [], byHand: [], before: [] };
  };
  const options = { state, host: realHost() };
  await applyPlan(plan("loop-lvm", "save-images"), options);
  docker.text(["rmi", "-f", ...names]);
  assert.notDeepEqual(contentsOf(docker), contents);
  await applyPlan(plan("vfs-fallback", "load-images"), options);
  assert.deepEqual(contentsOf(docker), contents);
  await finishCure("vfs-fallback", options);
  assert.equal(existsSync(archive), false);
}

test("a data root on ZFS: an ext4 in a file, mounted there for good; undone and ended", async (t) => {
  const place = zfsPlace({ size: "3G" });
  if (place.skip !== undefined) return t.skip(place.skip);
  const root = join(place.directory, "docker");
  zfs("create", `${place.pool}/docker`);
  // Not this machine's /etc/fstab.
  const etc = mkdtempSync(join(tmpdir(), "lamella-etc-"));
  run("cp", "-a", "/etc/.", etc);
  run("mount", "--bind", etc, "/etc");
  writeFileSync("/etc/fstab", "# mine\n");
  using docker = (await PlainDocker.start({ settings, dataRoot: root })) as PlainDocker | string as PlainDocker;
  if (typeof docker === "string") return t.skip(docker);
  using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const doctor = (...words: string[]): ReturnType<CliLab["lamella"]> => lab.lamella("doctor", "--only", ...words);
  fill(docker);
  docker.text(["volume", "create", "data"]);
  mkdirSync(join(root, "volumes/data/_data/deep"));
  writeFileSync(join(root, "volumes/data/_data/deep/file"), "kept");
  const contents = contentsOf(docker);
  const driver = (): string => docker.text(["info", "-f", "{{.Driver}}"]);
  try {
    for (const round of ["undo", "finish"] as const) {
      const fixed = doctor("--fix", id, "--yes", "--size", "1G");
      assert.equal(fixed.status, 0, fixed.stdout + fixed.stderr);
      assert.match(fixed.stdout, /docker info: Native Overlay Diff: true/);
      assert.deepEqual([driver(), mountAt(root)?.type], ["overlay2", "ext4"]);
      assert.deepEqual(contentsOf(docker), contents);
      assert.equal(readFileSync(join(root, "volumes/data/_data/deep/file"), "utf8"), "kept");
      assert.match(
        readFileSync("/etc/fstab", "utf8"),
        /^# mine\n# Docker's data root.*\n\S+\.volume\/ext4\.img \S+\/docker ext4 loop/,
      );
      docker.text(["create", `--name=${round}`, "second:2", "/nothing"]);
      const ended = doctor(`--${round}`, id);
      assert.equal(ended.status, 0, ended.stderr);
      if (round === "finish") {
        assert.match(ended.stdout, /by hand the dataset \S+\/docker-lamella-before is empty/);
        break;
      }
      assert.equal(driver(), "vfs");
      assert.equal(readFileSync("/etc/fstab", "utf8"), "# mine\n");
      assert.deepEqual(contentsOf(docker), contents);
      assert.match(ended.stdout, /Kept: what `zfs create/);
      const removed = doctor("--finish", id);
      assert.equal(removed.status, 0, removed.stderr);
      assert.equal(zfs("list", "-H", "-o", "name"), `${place.pool}\n${place.pool}/docker\n`);
    }
    const left = `${place.pool}\n${place.pool}/docker-ext4\n${place.pool}/docker-lamella-before\n`;
    assert.equal(zfs("list", "-H", "-o", "name"), left);
    assert.deepEqual(readdirSync(`${root}-lamella-before`), []);
    assert.equal(driver(), "overlay2");
    assert.deepEqual(contentsOf(docker), contents);
  } finally {
    docker[Symbol.dispose]();
    // Before the pool goes: zfs-fuse waits for all file systems then, and they would wait for it.
    for (const { type, mountPoint } of readMountInfo().reverse())
      if (type === "ext4" && mountPoint.startsWith(place.directory)) unmountPatiently(mountPoint);
    unmountPatiently("/etc");
    rmSync(etc, { recursive: true, force: true });
  }
});

/** Whoever is ending may still have files open. */
function unmountPatiently(path: string): void {
  for (let i = 0; ; i++) {
    const { status, stderr } = spawnSync("umount", [path], { encoding: "utf8" });
    if (status === 0) return;
    if (i > 100) throw new Error(stderr);
    sleepSync(100);
  }
}
