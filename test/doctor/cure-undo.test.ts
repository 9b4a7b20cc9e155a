/** Whatever stops a cure, or stands in the way of its undo: all comes back, or nothing is touched and it is said. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { realHost } from "../../src/doctor/cures/cure-host.ts";
import type { Plan } from "../../src/doctor/cures/plan.ts";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { openCures } from "../../src/doctor/cures/state.ts";
import { runKilled } from "../support/killed-cure.ts";
import { addLayer, CureLab, config, leaveRedirect, makeRoot, parameters, root, stateOf } from "./cure-lab.ts";

const isRoot = process.getuid?.() === 0;

test("killed at every event: undo gives back exactly what was; so does an undo that was killed", {
  skip: !isRoot,
}, async () => {
  await using lab = new CureLab();
  lab.made.write({ ...config("CONFIG_OVERLAY_FS_REDIRECT_DIR=y\n"), ...parameters("Y\n", "N\n") });
  lab.made.write({ "/etc/modprobe.d/overlay-native-diff.conf": "# mine\noptions overlay index=off\n" });
  makeRoot(lab);
  leaveRedirect(lab);
  addLayer(lab.made, "orphan");
  // Several cures in one, for all kinds of steps that need no engine.
  const plan = await lab.plan("naive-diff-redirect-dir");
  const more = [...(await lab.plan("orphan-layers")).steps];
  more.push({
    kind: "write-file",
    path: "/etc/new/deep/file",
    after: "new\n",
    madeDirectories: ["/etc/new", "/etc/new/deep"],
  });
  more.push({
    kind: "write-file",
    path: "/boot/config-6.1.0-test",
    before: Object.values(config("CONFIG_OVERLAY_FS_REDIRECT_DIR=y\n"))[0] ?? "",
    madeDirectories: [],
  });
  more.push({ kind: "change-mode", path: root, before: "0755", after: "0710" });
  // Its threads take their time to start: killed by itself, below.
  const quick = plan.steps.filter(({ kind }) => kind !== "rewrite-layers");
  const all: Plan = { ...plan, steps: [...quick, ...more] };
  const { prefix } = lab.made;
  const before = stateOf(prefix);
  const killed = { plan: all, state: lab.state, prefix };

  let event = 1;
  for (; runKilled({ ...killed, mode: "apply", event }); event++) {
    assert.deepEqual(
      openCures(lab.state),
      event > 2 * all.steps.length ? [{ id: all.id, stage: "cured" }] : [{ id: all.id, stage: "begun" }],
    );
    await undoCure(all.id, lab);
    assert.deepEqual(stateOf(prefix), before, `killed at event ${event}`);
    assert.deepEqual(openCures(lab.state), []);
  }
  assert.equal(event, 2 * all.steps.length + 2, "an event before and after each step, and one at the end");
  const after = stateOf(prefix);
  assert.notDeepEqual(after, before);
  await undoCure(all.id, lab);

  for (let event = 2; event <= 2 * all.steps.length; event += 5) {
    await applyPlan(all, lab);
    assert.ok(runKilled({ ...killed, mode: "undo", event }));
    assert.equal(openCures(lab.state)[0]?.stage, "undoing");
    await undoCure(all.id, lab);
    assert.deepEqual(stateOf(prefix), before, `undo killed at event ${event}`);
  }

  const rewriting: Plan = { ...plan, steps: [{ kind: "rewrite-layers", root }] };
  assert.ok(runKilled({ ...killed, plan: rewriting, mode: "apply", event: 2 }));
  assert.notDeepEqual(stateOf(prefix), before);
  await undoCure(all.id, lab);
  assert.deepEqual(stateOf(prefix), before, "killed when layers had been written anew");
});

test("a step that fails: all before it is undone, and it is said; a file that somebody changed is not overwritten", async () => {
  await using lab = new CureLab(() => {
    throw new Error("no such program");
  });
  lab.made.write({ ...config("CONFIG_OVERLAY_FS_METACOPY=y\n"), ...parameters("N\n", "Y\n") });
  makeRoot(lab);
  const plan = await lab.plan("naive-diff-metacopy");
  const before = stateOf(lab.made.prefix);
  const failing: Plan = { ...plan, steps: [...plan.steps, { kind: "command", argv: ["nothing"], holdsData: false }] };
  await assert.rejects(applyPlan(failing, lab), /no such program; what had been done was undone/);
  assert.deepEqual(stateOf(lab.made.prefix), before);

  const interrupt = new AbortController();
  const interrupted = applyPlan(plan, {
    host: lab.host,
    state: lab.state,
    signal: interrupt.signal,
    onEvent: (event) => event.event === "done" && event.step === 1 && interrupt.abort(),
  });
  await assert.rejects(interrupted, { kind: "canceled", message: /what had been done was undone/ });
  assert.deepEqual(stateOf(lab.made.prefix), before, "after Ctrl-C");

  await applyPlan(plan, lab);
  await assert.rejects(applyPlan(plan, lab), { code: "CURE_EXISTS" });
  lab.made.write({ "/etc/modprobe.d/overlay-native-diff.conf": "mine\n" });
  await assert.rejects(undoCure(plan.id, lab), { code: "CHANGED_SINCE" });
  assert.equal(lab.host.view.text("/etc/modprobe.d/overlay-native-diff.conf"), "mine\n");
  await finishCure(plan.id, lab);
  await assert.rejects(undoCure(plan.id, lab), { code: "NO_CURE" });
});

test("a question that could not be asked is no answer: the undo stops before it does anything", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lamella-undo-if-"));
  const at = (name: string): string => join(directory, name);
  const script = (name: string, text: string, mode = 0o755): string => {
    writeFileSync(at(name), `#!/bin/sh\n${text}\n`);
    chmodSync(at(name), mode);
    return at(name);
  };
  const lab = { host: realHost(), state: at("state") };
  const mark = (name: string): readonly string[] => ["touch", at(`${name}-undone`)];
  const planned = (question: string): Plan => ({
    schema: 1,
    id: "orphan-layers",
    subject: "a test",
    summary: "",
    steps: [
      { kind: "command", argv: ["true"], undo: mark("before"), holdsData: false },
      {
        kind: "command",
        argv: ["true"],
        undo: mark("made"),
        undoIf: { argv: [question], prints: "made" },
        holdsData: false,
      },
      { kind: "command", argv: ["true"], undo: mark("last"), holdsData: false },
    ],
    notes: [],
    byHand: [],
    before: [],
  });
  const undone = (): string[] => ["before", "made", "last"].filter((name) => existsSync(at(`${name}-undone`)));
  try {
    for (const [question, why] of [
      [at("nowhere"), /nowhere: there is no such program/],
      [script("forbidden", "", 0o644), /EACCES/],
      [script("killed", "kill -9 $$"), /killed: killed \(SIGKILL\)/],
      [script("broken", "echo out of order >&2; exit 1"), /broken: out of order/],
    ] as const) {
      await applyPlan(planned(question), lab);
      await assert.rejects(undoCure("orphan-layers", lab), { code: "CANNOT_ASK", message: why });
      assert.deepEqual(undone(), [], question);
      // Mended, it goes on.
      script(basename(question), "echo other; echo made");
      await undoCure("orphan-layers", lab);
      assert.deepEqual(undone(), ["before", "made", "last"], question);
      for (const name of undone()) rmSync(at(`${name}-undone`));
    }
    await applyPlan(planned(script("no", "echo other")), lab);
    await undoCure("orphan-layers", lab);
    assert.deepEqual(undone(), ["before", "last"]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
