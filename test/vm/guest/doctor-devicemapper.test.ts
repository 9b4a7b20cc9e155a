/**
 * loop-lvm to overlay2 with a real dockerd, in a machine that has a device mapper: found, planned, cured with the same images,
 * undone with the container back. No differ but Docker's reads such layers: they go by way of an archive.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PlainDocker } from "../../support/plain-dockerd.ts";

const id = "loop-lvm";
const settings = {
  "storage-driver": "devicemapper",
  "storage-opts": [
    // Small enough for a machine whose processor is emulated.
    "dm.basesize=200M",
    "dm.loopdatasize=1G",
    "dm.loopmetadatasize=16M",
    "dm.fs=ext4",
    // No udev runs here.
    "dm.override_udev_sync_check=true",
  ],
};

function doctor(docker: PlainDocker, ...words: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.js", "doctor", "--only", ...words], {
    encoding: "utf8",
    env: { ...process.env, DOCKER_HOST: `unix://${docker.socket}` },
  });
  return { status, text: stdout + stderr };
}

/** Images by their IDs and layers, and a file of each. */
function imagesOf(docker: PlainDocker): string[] {
  const format = "{{.Id}} {{json .RootFS.Layers}}";
  return ["base", "second"].map((name) => docker.text(["image", "inspect", "-f", format, name]));
}

test("loop-lvm to overlay2 with the images kept; undone, and nothing is left", async () => {
  const started = await PlainDocker.start({ settings: JSON.stringify(settings) });
  if (typeof started === "string") return assert.fail(started);
  using docker = started;
  const driver = (): string => docker.text(["info", "-f", "{{.Driver}}"]);
  docker.importImage("base", "mkdir dir; echo one > dir/file; ln dir/file dir/link; mkfifo pipe");
  docker.text(["create", "--name", "box", "base", "/nothing"]);
  docker.text(["cp", "-", "box:/"], spawnSync("tar", ["-C", import.meta.dirname, "-c", "."]).stdout);
  docker.text(["commit", "box", "second"]);
  const images = imagesOf(docker);
  assert.match(docker.status("Data loop file") ?? "", /devicemapper\/data$/);
  const ids = doctor(docker, "-q").text.split("\n");
  for (const one of [id, "naive-diff-driver", "driver-deprecated"]) assert.ok(ids.includes(one), ids.join(", "));
  const dry = doctor(docker, "--fix", id, "--dry-run");
  assert.match(dry.text, /docker save 2 images to [\s\S]*docker load/);
  assert.match(dry.text, /1 containers \(box\) belong to devicemapper/);

  const cured = doctor(docker, "--fix", id, "--yes");
  assert.equal(cured.status, 0, cured.text);
  assert.equal(driver(), "overlay2");
  assert.equal(docker.status("Native Overlay Diff"), "true");
  assert.deepEqual(imagesOf(docker), images);
  docker.text(["create", "--name", "new", "second", "/nothing"]);
  assert.match(docker.text(["cp", "new:/doctor-devicemapper.test.js", "-"]), /loop-lvm/);
  assert.ok(!doctor(docker, "-q").text.includes(id));

  const undone = doctor(docker, "--undo", id);
  assert.equal(undone.status, 0, undone.text);
  assert.match(undone.text, /Kept: .*lamella-doctor-undone: what Docker made under overlay2/);
  assert.equal(driver(), "devicemapper");
  assert.deepEqual(imagesOf(docker), images);
  assert.equal(docker.text(["ps", "-a", "--format", "{{.Names}}"]), "box");
  const ended = doctor(docker, "--finish", id);
  assert.equal(ended.status, 0, ended.text);
  for (const name of ["overlay2", "image/overlay2", "lamella-doctor-undone", "lamella-doctor-images.tar"])
    assert.equal(existsSync(join(docker.root, name)), false, name);
  assert.equal(doctor(docker, "--fix", id, "--dry-run").status, 0, "nothing stands in the way of another");
});
