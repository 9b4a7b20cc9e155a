/** The cure of overlay options on a made host: what it plans, and what it changes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { CureLab, config, hex, leaveRedirect, makeRoot, parameters, root } from "./cure-lab.ts";

const isRoot = process.getuid?.() === 0;

test("the trap of the one option: modprobe.d gets both, where they count", async () => {
  await using lab = new CureLab();
  lab.made.write({
    ...config("CONFIG_OVERLAY_FS_REDIRECT_DIR=y\nCONFIG_OVERLAY_FS_METACOPY=y\n"),
    ...parameters("N\n", "Y\n"),
    "/etc/modprobe.d/docker.conf": "options overlay redirect_dir=off\n",
  });
  makeRoot(lab);
  const { steps, byHand } = await lab.plan("naive-diff-metacopy");
  const [rewrite, file, set] = steps;
  assert.equal(steps.length, 3);
  assert.deepEqual(rewrite, { kind: "rewrite-layers", root });
  assert.ok(file?.kind === "write-file");
  assert.equal(file.path, "/etc/modprobe.d/overlay-native-diff.conf");
  assert.match(file.after ?? "", /^# .*\noptions overlay metacopy=off redirect_dir=off\n$/);
  assert.deepEqual(set, { kind: "set-parameters", before: { metacopy: "Y" }, after: { metacopy: "N" }, reload: true });
  assert.deepEqual(byHand, []);

  lab.made.write({ "/etc/modprobe.d/sys.conf": "options overlay metacopy=on\n" });
  const [, later] = (await lab.plan("naive-diff-metacopy")).steps;
  assert.equal(later?.kind === "write-file" && later.path, "/etc/modprobe.d/zz-overlay-native-diff.conf");

  lab.made.write({ "/proc/cmdline": "quiet overlay.metacopy=on\n" });
  const stubborn = await lab.plan("naive-diff-metacopy");
  assert.match(stubborn.byHand.join(), /take `overlay\.metacopy=\.\.\.` off the kernel command line/);
  assert.ok(stubborn.steps.some((step) => step.kind === "set-parameters" && !step.reload));
});

test("built in: parameters now, and the kernel command line by hand", async () => {
  await using lab = new CureLab();
  const builtIn = { "/boot/config-6.1.0-test": "CONFIG_OVERLAY_FS=y\nCONFIG_OVERLAY_FS_REDIRECT_DIR=y\n" };
  lab.made.write({ ...builtIn, ...parameters("Y\n", "N\n") });
  makeRoot(lab);
  const { steps, byHand } = await lab.plan("naive-diff-redirect-dir");
  assert.deepEqual(
    steps.map(({ kind }) => kind),
    ["rewrite-layers", "set-parameters"],
  );
  assert.match(byHand.join(), /add `overlay\.metacopy=off overlay\.redirect_dir=off` to the kernel command line/);
});

test("the module is loaded anew where nothing uses it", async () => {
  await using lab: CureLab = new CureLab((command) => {
    // What modprobe does with the options in modprobe.d.
    if (command === "modprobe overlay") lab.made.write(parameters("N\n", "N\n"));
    return "";
  });
  lab.made.write({ ...config("CONFIG_OVERLAY_FS_REDIRECT_DIR=y\n"), ...parameters("Y\n", "N\n") });
  lab.made.write({ "/sys/module/overlay/refcnt": "0\n" });
  makeRoot(lab);
  await applyPlan(await lab.plan("naive-diff-redirect-dir"), lab);
  assert.deepEqual(lab.commands, ["modprobe -r overlay", "modprobe overlay"]);
  await undoCure("naive-diff-redirect-dir", lab);
  assert.equal(lab.host.view.text("/sys/module/overlay/parameters/redirect_dir"), "Y");
});

test("layers with redirects: written anew, or kept and followed; metadata-only copies cannot be kept", {
  skip: !isRoot,
}, async () => {
  await using lab = new CureLab();
  lab.made.write({ ...config("CONFIG_OVERLAY_FS_REDIRECT_DIR=y\n"), ...parameters("Y\n", "N\n") });
  lab.made.write({ "/sys/module/overlay/parameters/redirect_always_follow": "N\n" });
  makeRoot(lab);
  leaveRedirect(lab);
  const id = "naive-diff-redirect-dir";
  const kept = await lab.plan(id, { keepLayers: true });
  assert.ok(!kept.steps.some(({ kind }) => kind === "rewrite-layers"));
  assert.match(JSON.stringify(kept.steps), /redirect_always_follow=on/);
  assert.match(kept.notes.join(), /1 layers with redirects stay as they are/);

  const upper = join(lab.made.prefix, root, "overlay2", hex("top"), "diff");
  const plan = await lab.plan(id);
  assert.match(plan.notes.join(), /1 layers hold redirects/);
  const said: string[] = [];
  await applyPlan(plan, { host: lab.host, state: lab.state, say: (message) => said.push(message) });
  assert.match(said.join(), /wrote 1 layers without redirects/);
  assert.equal(readFileSync(join(upper, "moved/file"), "utf8"), "content");
  assert.ok(lstatSync(join(upper, "dir")).isCharacterDevice(), "the old name is still whited out");
  await finishCure(id, lab);
  assert.deepEqual(readdirSync(join(upper, "..")).sort(), ["diff", "link", "lower"]);

  lab.made.write({ ...parameters("Y\n", "N\n"), [`${root}/overlay2/${hex("top")}/diff/meta`]: "" });
  execFileSync("setfattr", ["-n", "trusted.overlay.metacopy", join(upper, "meta")]);
  await assert.rejects(lab.plan(id, { keepLayers: true }), { code: "METADATA_COPIES" });
});
