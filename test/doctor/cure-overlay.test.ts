/** The cure of overlay options on a real dockerd: found, fixed, verified, undone. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findMarkedLayers } from "../../src/doctor/cures/marked-layers.ts";
import { CliLab } from "../e2e/cli-harness.ts";
import { run } from "../support/loop-devices.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { parameterNow, parametersFixed, withParameter } from "../support/overlay-parameters.ts";
import { PlainDocker } from "../support/plain-dockerd.ts";

test("redirect_dir on: found, planned, cured, undone; a container's renamed directory comes along", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  const fixed = parametersFixed();
  if (fixed !== undefined) return t.skip(fixed);
  using _parameter = withParameter("redirect_dir", "Y");
  using docker = (await PlainDocker.start()) as PlainDocker | string as PlainDocker;
  if (typeof docker === "string") return t.skip(docker);
  using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const doctor = (...words: string[]): ReturnType<CliLab["lamella"]> => lab.lamella("doctor", "--only", ...words);
  const id = "naive-diff-redirect-dir";

  // A container that renames a directory of its image leaves a redirect in its layer.
  docker.importImage("base", "mkdir -p dir/deep; echo one > dir/file; echo two > dir/deep/file; mkdir other");
  const container = docker.text(["create", "--name", "box", "base", "/nothing"]);
  const layer = join(docker.root, "image/overlay2/layerdb/mounts", container, "mount-id");
  const home = join(docker.root, "overlay2");
  const upper = join(home, readFileSync(layer, "utf8"), "diff");
  moveInContainer(docker, join(home, readFileSync(layer, "utf8")));
  assert.equal(findMarkedLayers(home, "diff").length, 1);
  assert.equal(docker.status("Native Overlay Diff"), "false");
  assert.match(doctor().stdout, /fix +lamella doctor --fix naive-diff-redirect-dir/);

  const dry = doctor("--fix", id, "--dry-run");
  assert.equal(dry.status, 0, dry.stderr);
  assert.match(dry.stdout, /stop Docker/);
  assert.match(dry.stdout, /1 layers hold redirects/);
  assert.match(dry.stdout, /Downtime +about \d+ s/);
  assert.equal(parameterNow("redirect_dir"), "Y");
  const unasked = doctor("--fix", id);
  assert.equal(unasked.status, 2);
  assert.match(unasked.stderr, /--yes/);

  const pid = docker.pid;
  const cured = doctor("--fix", id, "--yes", "--measure", "--entries", "3000");
  assert.equal(cured.status, 0, cured.stdout + cured.stderr);
  assert.match(cured.stdout, /docker info: Native Overlay Diff: true/);
  assert.match(cured.stdout, /A docker build of 5 small steps: \S+ before, \S+ after, \d+\.\d times as fast/);
  assert.match(cured.stdout, /wrote 1 layers without redirects/);
  assert.equal(parameterNow("redirect_dir"), "N");
  assert.equal(docker.status("Native Overlay Diff"), "true");
  assert.notEqual(docker.pid, pid);
  assert.match(readFileSync(`/proc/${docker.pid}/environ`, "latin1"), /MARK=kept/);
  assert.equal(findMarkedLayers(home, "diff").length, 0);
  assert.equal(readFileSync(join(upper, "moved/deep/file"), "utf8"), "two\n", "now in the layer itself");
  // Docker's native diff reads it rightly.
  docker.text(["commit", "box", "second"]);
  const names = namesIn(docker, "second", lab.directory);
  assert.deepEqual(
    names.filter((name) => /^(dir|moved|other)/.test(name)),
    ["moved/", "moved/deep/", "moved/deep/file", "moved/file", "other/"],
  );
  assert.doesNotMatch(doctor("-q").stdout, /naive-diff-|overlay-/);
  assert.equal(doctor("--fix", id, "--yes").status, 0, "nothing to do");
  assert.match(doctor().stdout, /naive-diff-redirect-dir is cured: --undo/);

  const undone = doctor("--undo", id);
  assert.equal(undone.status, 0, undone.stderr);
  assert.match(undone.stdout, /Kept: 1 layers stay without redirects/);
  assert.equal(parameterNow("redirect_dir"), "Y");
  assert.equal(docker.status("Native Overlay Diff"), "false");
  assert.equal(doctor("--finish", id).status, 0);
  assert.equal(existsSync(join(lab.root, "doctor", id)), false);
  assert.equal(existsSync(`${upper}.lamella-before`), false);
});

/** What the container's process would do: mounts its stack as Docker does, and renames. */
function moveInContainer(docker: PlainDocker, layer: string): void {
  const lower = readFileSync(join(layer, "lower"), "utf8")
    .split(":")
    .map((name) => join(docker.root, "overlay2", name))
    .join(":");
  const merged = join(docker.directory, "merged");
  mkdirSync(merged);
  const options = `index=off,lowerdir=${lower},upperdir=${layer}/diff,workdir=${layer}/work`;
  run("mount", "-t", "overlay", "overlay", "-o", options, merged);
  try {
    run("mv", join(merged, "dir"), join(merged, "moved"));
  } finally {
    run("umount", merged);
  }
}

/** Names in an image, sorted. */
function namesIn(docker: PlainDocker, image: string, directory: string): string[] {
  const file = join(directory, "exported.tar");
  docker.text(["export", "-o", file, docker.text(["create", image, "/nothing"])]);
  return run("tar", "-tf", file).split("\n").sort();
}
