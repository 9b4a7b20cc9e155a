/** Orphans and an open data root on a real dockerd: moved aside while it stands still, back, and gone; never while it runs. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { realHost } from "../../src/doctor/cures/cure-host.ts";
import { planCure } from "../../src/doctor/cures/planners.ts";
import { applyPlan } from "../../src/doctor/cures/run.ts";
import { examine } from "../../src/doctor/doctor.ts";
import { CliLab, type Result } from "../e2e/cli-harness.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { keepParameters } from "../support/overlay-parameters.ts";
import { PlainDocker } from "../support/plain-dockerd.ts";

test("an orphan beside images and a container, and a data root open to others", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  keepParameters();
  using docker = (await PlainDocker.start()) as PlainDocker | string as PlainDocker;
  if (typeof docker === "string") return t.skip(docker);
  using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  const doctor = (...words: string[]): Result => lab.lamella("doctor", "--only", ...words);
  docker.importImage("base", "mkdir dir; echo one > dir/file");
  docker.text(["create", "--name", "box", "base", "/nothing"]);
  const home = join(docker.root, "overlay2");
  const orphan = join(home, "0".repeat(64));
  mkdirSync(join(orphan, "diff"), { recursive: true });
  writeFileSync(join(orphan, "diff/file"), "left over");
  // All of them look old, so that none is left out for being young.
  for (const name of readdirSync(home)) utimesSync(join(home, name), 1, 1);
  const id = "orphan-layers";
  const layers = readdirSync(home).sort();

  // A plan from which the stop is gone meets the guard, and so does its undo.
  const diagnosis = await examine({ uid: 0, env: { DOCKER_HOST: `unix://${docker.socket}` }, onlyRoots: true });
  const host = realHost();
  const plan = await planCure(diagnosis, id, { host, choices: {} });
  assert.ok(plan);
  const steps = plan.steps.filter(({ kind }) => kind === "set-aside");
  const running = applyPlan({ ...plan, steps }, { host, state: join(lab.directory, "running") });
  await assert.rejects(running, { code: "CURE_STUCK", message: /dockerd \(process \d+\) runs on/ });
  assert.deepEqual(readdirSync(home).sort(), layers);

  const { pid } = docker;
  const cured = doctor("--fix", id, "--yes");
  assert.equal(cured.status, 0, cured.stderr);
  assert.notEqual(docker.pid, pid, "it was stopped meanwhile");
  assert.deepEqual(
    readdirSync(home).sort(),
    layers.filter((name) => name !== "0".repeat(64)),
  );
  assert.equal(doctor("-q").stdout.includes(id), false);
  docker.text(["commit", "box", "second"]);
  assert.equal(doctor("--undo", id).status, 0);
  assert.ok(existsSync(join(orphan, "diff/file")));
  assert.equal(doctor("--fix", id, "--yes", "-q").status, 0);
  assert.equal(doctor("--finish", id).status, 0);
  assert.ok(!existsSync(orphan) && !existsSync(join(docker.root, "lamella-doctor-orphans")));
  docker.text(["create", "second", "/nothing"]);

  chmodSync(docker.directory, 0o755);
  chmodSync(docker.root, 0o711);
  const mode = (): number => statSync(docker.root).mode & 0o777;
  assert.equal(doctor("--fix", "root-open-to-others", "--yes").status, 0);
  assert.equal(mode(), 0o710);
  docker.text(["create", "base", "/nothing"]);
  assert.equal(doctor("--undo", "root-open-to-others").status, 0);
  assert.equal(mode(), 0o711);
});
