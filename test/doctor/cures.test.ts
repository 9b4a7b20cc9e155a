/** Cures on a made host: what they plan, what they change, and that whatever stops them can be undone. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { CureHost } from "../../src/doctor/cures/cure-host.ts";
import { withDriver } from "../../src/doctor/cures/daemon-json.ts";
import { escapeUnit } from "../../src/doctor/cures/lasting-mount.ts";
import type { CureChoices, Plan } from "../../src/doctor/cures/plan.ts";
import { planCure } from "../../src/doctor/cures/planners.ts";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { openCures } from "../../src/doctor/cures/state.ts";
import { mountOptionsOff, withMountOptions } from "../../src/doctor/cures/storage-conf.ts";
import { diagnose, isHealthy } from "../../src/doctor/diagnose.ts";
import { HostView } from "../../src/doctor/host-view.ts";
import { runKilled } from "../support/killed-cure.ts";
import { MadeHost } from "./made-host.ts";

const root = "/var/lib/docker";
const hex = (text: string): string => createHash("sha256").update(text).digest("hex");
const isRoot = process.getuid?.() === 0;

/** A made host as cures see it. Programs are noted; `answer` says what they print. */
class Lab implements AsyncDisposable {
  readonly made = new MadeHost();
  readonly commands: string[] = [];
  readonly host: CureHost;

  constructor(answer: (command: string) => string = () => "") {
    this.host = {
      view: new HostView(this.made.prefix),
      run: async (argv) => {
        this.commands.push(argv.join(" "));
        return answer(argv.join(" "));
      },
    };
  }

  get state(): string {
    return `${this.made.prefix}.state`;
  }

  async plan(id: string, choices: CureChoices = {}): Promise<Plan> {
    const facts = await this.made.facts();
    const findings = diagnose(facts);
    const all = { schema: 1, healthy: isHealthy(findings), findings, facts } as const;
    const plan = await planCure(all, id, { host: this.host, choices });
    assert.ok(plan, `${id} is not among ${findings.map((one) => one.id).join(", ")}`);
    return plan;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.made[Symbol.asyncDispose]();
    rmSync(this.state, { recursive: true, force: true });
  }
}

/** All that undoing has to bring back: everything but the times of directories. */
function stateOf(prefix: string): string[] {
  return (readdirSync(prefix, { recursive: true }) as string[]).sort().map((name) => {
    const path = join(prefix, name);
    const { mode, uid, gid, mtimeMs } = lstatSync(path);
    if (lstatSync(path).isSymbolicLink()) return `${name} -> ${readlinkSync(path)}`;
    if (lstatSync(path).isDirectory()) return `${name} ${mode.toString(8)} ${uid}:${gid} ${redirectOf(path)}`;
    // Files of sysfs keep no time, and end in a newline.
    if (name.startsWith("sys/")) return `${name} ${readFileSync(path, "latin1").trim()}`;
    return `${name} ${mode.toString(8)} ${uid}:${gid} ${mtimeMs} ${lstatSync(path).isFile() ? hex(readFileSync(path, "latin1")) : ""}`;
  });
}

function redirectOf(path: string): string {
  if (!path.includes("/diff/")) return "";
  try {
    const args = ["--only-values", "--absolute-names", "-n", "trusted.overlay.redirect", path];
    return execFileSync("getfattr", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}

const config = (values: string): Record<string, string> => ({
  "/boot/config-6.1.0-test": `CONFIG_OVERLAY_FS=m\n${values}`,
});
const parameters = (redirectDir: string, metacopy: string): Record<string, string> => ({
  "/sys/module/overlay/coresize": "1\n",
  "/sys/module/overlay/refcnt": "1\n",
  "/sys/module/overlay/parameters/redirect_dir": redirectDir,
  "/sys/module/overlay/parameters/metacopy": metacopy,
});

/** A data root of a daemon that does not run: an image's layer, and a container's on it. */
function makeRoot({ made }: Lab): void {
  const layer = `${root}/image/overlay2/layerdb/sha256/${hex("chain")}`;
  made.write({ [`${layer}/cache-id`]: hex("low"), [`${layer}/diff`]: `sha256:${hex("diff")}`, [`${layer}/size`]: "1" });
  made.write({ [`${root}/image/overlay2/layerdb/mounts/${hex("c")}/mount-id`]: hex("top") });
  addLayer(made, "low");
  made.write({ [`${root}/overlay2/${hex("low")}/diff/dir/file`]: "content" });
  addLayer(made, "top", "low");
}

function addLayer(made: MadeHost, name: string, parent?: string): void {
  const short = (of: string): string => of.toUpperCase().padEnd(26, "X");
  made.directory(`${root}/overlay2/${hex(name)}/diff`);
  made.write({ [`${root}/overlay2/${hex(name)}/link`]: short(name) });
  if (parent !== undefined) made.write({ [`${root}/overlay2/${hex(name)}/lower`]: `l/${short(parent)}` });
  made.link(`../${hex(name)}/diff`, `${root}/overlay2/l/${short(name)}`);
  made.age(`${root}/overlay2/${hex(name)}`);
}

/** The container renamed `dir` to `moved`. */
function leaveRedirect({ made }: Lab): void {
  const upper = join(made.prefix, root, "overlay2", hex("top"), "diff");
  mkdirSync(join(upper, "moved"));
  execFileSync("setfattr", ["-n", "trusted.overlay.redirect", "-v", "dir", join(upper, "moved")]);
  execFileSync("mknod", [join(upper, "dir"), "c", "0", "0"]);
}

test("the trap of the one option: modprobe.d gets both, where they count", async () => {
  await using lab = new Lab();
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
  await using lab = new Lab();
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
  await using lab: Lab = new Lab((command) => {
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
  await using lab = new Lab();
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

test("killed at every event: undo gives back exactly what was; so does an undo that was killed", {
  skip: !isRoot,
}, async () => {
  await using lab = new Lab();
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
  await using lab = new Lab(() => {
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

test("what there is no cure for, or no finding", async () => {
  await using lab = new Lab();
  makeRoot(lab);
  lab.made.write({ [`${root}/overlay2/${hex("top")}/lower`]: "" });
  await assert.rejects(lab.plan("layer-links-broken"), { code: "NO_CURE_KNOWN" });
  await assert.rejects(lab.plan("slowness"), { code: "UNKNOWN_FINDING" });
});

test("orphans: moved aside with the links to them, back, and gone at the end", async () => {
  await using lab = new Lab();
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
  await using lab = new Lab();
  makeRoot(lab);
  execFileSync("chmod", ["0755", lab.made.prefix]);
  execFileSync("chmod", ["0711", join(lab.made.prefix, root)]);
  const mode = (): number => statSync(join(lab.made.prefix, root)).mode & 0o7777;
  await applyPlan(await lab.plan("root-open-to-others"), lab);
  assert.equal(mode(), 0o710);
  await undoCure("root-open-to-others", lab);
  assert.equal(mode(), 0o711);
});

const storageConf = `# storage of this host
[storage]
driver = "overlay"

# where images lie
graphroot = "/data/containers"
runroot = "/run/other"
[storage.options.overlay]
# as the distribution has it
mountopt = "nodev,metacopy=on" # not ours
size = "10G"
`;

test("podman: the options change and nothing else; what it remembers goes", async () => {
  await using lab = new Lab();
  lab.made.directory("/data/containers");
  lab.made.write({
    "/etc/containers/storage.conf": storageConf,
    "/run/other/overlay/native-diff(nodev,metacopy=on)-false": "",
  });
  const before = stateOf(lab.made.prefix);
  await applyPlan(await lab.plan("naive-diff-podman"), lab);
  assert.equal(
    lab.host.view.text("/etc/containers/storage.conf"),
    storageConf.replace('"nodev,metacopy=on"', '"nodev,redirect_dir=off,metacopy=off"'),
  );
  assert.deepEqual(lab.host.view.names("/run/other/overlay"), []);
  assert.deepEqual(diagnose(await lab.made.facts()), []);
  await undoCure("naive-diff-podman", lab);
  assert.deepEqual(stateOf(lab.made.prefix), before);
});

test("podman: what it remembers alone; a file of the distribution is not touched", async () => {
  await using lab = new Lab();
  lab.made.directory("/var/lib/containers/storage");
  lab.made.write({
    "/usr/share/containers/storage.conf": '[storage]\ndriver = "overlay"\n',
    ...parameters("Y\n", "N\n"),
  });
  const [file] = (await lab.plan("naive-diff-podman")).steps;
  assert.ok(file?.kind === "write-file");
  assert.equal(file.path, "/etc/containers/storage.conf");
  assert.deepEqual(file.madeDirectories, ["/etc", "/etc/containers"]);
  assert.equal(
    file.after,
    '[storage]\ndriver = "overlay"\n\n[storage.options.overlay]\nmountopt = "nodev,redirect_dir=off,metacopy=off"\n',
  );
  lab.made.write({ ...parameters("N\n", "N\n"), "/run/containers/storage/overlay/native-diff()-false": "" });
  const { steps } = await lab.plan("naive-diff-podman-remembered");
  assert.deepEqual(
    steps.map((step) => step.kind === "write-file" && step.path),
    ["/run/containers/storage/overlay/native-diff()-false"],
  );
});

test("mountopt where it stands: in the table, in the older place, after the header, at the end", () => {
  const value = mountOptionsOff("volatile,redirect_dir=on,nodev");
  assert.equal(value, "volatile,nodev,redirect_dir=off,metacopy=off");
  const changed = (text: string): string => withMountOptions(text, "x");
  assert.equal(
    changed("[storage.options]\n mountopt = 'a'\n[other]\nmountopt = \"b\"\n"),
    '[storage.options]\n mountopt = "x"\n[other]\nmountopt = "b"\n',
  );
  assert.equal(
    changed('[storage.options.overlay] # here\n#mountopt = "a"\n'),
    '[storage.options.overlay] # here\nmountopt = "x"\n#mountopt = "a"\n',
  );
  assert.equal(changed("[storage]"), '[storage]\n\n[storage.options.overlay]\nmountopt = "x"\n');
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
