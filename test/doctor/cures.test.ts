/** Cures on a made host: orphans, modes, and what cannot be cured; how daemon.json is edited. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withDriver } from "../../src/doctor/cures/daemon-json.ts";
import { escapeUnit } from "../../src/doctor/cures/lasting-mount.ts";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { addLayer, CureLab, hex, makeRoot, root, stateOf } from "./cure-lab.ts";

test("what there is no cure for, or no finding", async () => {
  await using lab = new CureLab();
  makeRoot(lab);
  lab.made.write({ [`${root}/overlay2/${hex("top")}/lower`]: "" });
  await assert.rejects(lab.plan("layer-links-broken"), { code: "NO_CURE_KNOWN" });
  await assert.rejects(lab.plan("slowness"), { code: "UNKNOWN_FINDING" });
});

test("orphans: moved aside with the links to them, back, and gone at the end", async () => {
  await using lab = new CureLab();
  makeRoot(lab);
  addLayer(lab.made, "orphan");
  const at = (path: string): string => join(lab.made.prefix, root, path);
  const before = stateOf(lab.made.prefix);
  await applyPlan(await lab.plan("orphan-layers"), lab);
  assert.ok(!existsSync(at(`overlay2/${hex("orphan")}`)));
  assert.ok(existsSync(at(`lamella-doctor-orphans/overlay2/${hex("orphan")}/diff`)));
  assert.equal(readdirSync(at("overlay2/l")).length, 2);
  assert.ok(!diagnose(await lab.made.facts()).some(({ id }) => id === "orphan-layers"));
  await undoCure("orphan-layers", lab);
  assert.deepEqual(stateOf(lab.made.prefix), before);
  await applyPlan(await lab.plan("orphan-layers"), lab);
  await finishCure("orphan-layers", lab);
  assert.ok(!existsSync(at("lamella-doctor-orphans")));
  assert.deepEqual(
    diagnose(await lab.made.facts()).map(({ id }) => id),
    ["docker-diff-naive"],
  );
});

test("a data root open to others", async () => {
  await using lab = new CureLab();
  makeRoot(lab);
  execFileSync("chmod", ["0755", lab.made.prefix]);
  execFileSync("chmod", ["0711", join(lab.made.prefix, root)]);
  const mode = (): number => statSync(join(lab.made.prefix, root)).mode & 0o7777;
  await applyPlan(await lab.plan("root-open-to-others"), lab);
  assert.equal(mode(), 0o710);
  await undoCure("root-open-to-others", lab);
  assert.equal(mode(), 0o711);
});

test("daemon.json: the driver, options of other drivers, order and indentation; unit names as systemd has them", () => {
  const text =
    '{\n\t"log-level": "warn",\n\t"storage-driver": "devicemapper",\n\t"storage-opts": ["dm.basesize=20G"],\n\t"debug": true\n}\n';
  assert.equal(
    withDriver(text, "overlay2", "f"),
    '{\n\t"log-level": "warn",\n\t"storage-driver": "overlay2",\n\t"debug": true\n}\n',
  );
  assert.equal(withDriver(undefined, "overlay2", "f"), '{\n  "storage-driver": "overlay2"\n}\n');
  assert.throws(() => withDriver("{,", "overlay2", "f"), { code: "NOT_JSON" });
  assert.equal(escapeUnit("/var/lib/docker-x y"), "var-lib-docker\\x2dx\\x20y");
});
