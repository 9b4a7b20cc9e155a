/** The cure of podman's options on a made host, and how storage.conf is edited. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { applyPlan, undoCure } from "../../src/doctor/cures/run.ts";
import { mountOptionsOff, withMountOptions } from "../../src/doctor/cures/storage-conf.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { CureLab, parameters, stateOf } from "./cure-lab.ts";

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
  await using lab = new CureLab();
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
  await using lab = new CureLab();
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
