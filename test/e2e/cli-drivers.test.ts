/** The command line's choice of driver: names, options, daemon.json, what `info` says of it. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { CliLab } from "./cli-harness.ts";

const lab = new CliLab();
const unsupported = lab.unsupported();
after(() => lab[Symbol.dispose]());

/** A file daemon.json of this content. */
function configFile(content: unknown): string {
  const path = join(lab.directory, "daemon.json");
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

interface Info {
  readonly root: string;
  readonly driver: string;
  readonly drivers?: { readonly name: string; readonly chosen: boolean; readonly reason: string }[];
}

test("daemon.json: read before nothing, after the environment and the command line", { skip: unsupported }, () => {
  const dataRoot = join(lab.directory, "docker");
  const config = configFile({ "data-root": dataRoot, "storage-driver": "vfs", "log-driver": "none" });
  const elsewhere = (env: Record<string, string>, ...words: string[]): Info => {
    using other = new CliLab({ env: { LAMELLA_ROOT: "", ...env } });
    return other.json<Info>("info", "--config", config, ...words);
  };
  const plain = elsewhere({});
  assert.equal(plain.root, join(dataRoot, "lamella"));
  assert.equal(plain.driver, "vfs");
  const byEnvironment = elsewhere({ LAMELLA_ROOT: lab.root, LAMELLA_DRIVER: "overlay2" });
  assert.deepEqual([byEnvironment.root, byEnvironment.driver], [lab.root, "overlay2"]);
  const byOption = elsewhere({ LAMELLA_DRIVER: "overlay2" }, "--driver", "vfs", "--root", join(lab.directory, "third"));
  assert.deepEqual([byOption.root, byOption.driver], [join(lab.directory, "third"), "vfs"]);

  const { status, stdout, stderr } = lab.lamella("--config", config, "images", "-q");
  assert.deepEqual([status, stdout, stderr], [0, "", ""]);
  assert.equal(lab.lamella("--config", config, "images").stderr, `note: ${config}: not heeded: log-driver\n`);
});

test("daemon.json: options are for the driver they came with", { skip: unsupported }, () => {
  const config = configFile({ "storage-driver": "overlay2", "storage-opts": ["overlay2.metacopy=off"] });
  assert.match(lab.ok("info", "--config", config), /metacopy=off/);
  assert.equal(lab.json<Info>("info", "--config", config, "--driver", "vfs").driver, "vfs");
  configFile({ "storage-opts": ["overlay2.metacopi=off"] });
  const misspelt = lab.lamella("info", "--config", config);
  assert.equal(misspelt.status, 1);
  assert.match(misspelt.stderr, /unknown option overlay2\.metacopi\nhint: did you mean overlay2\.metacopy\?/);
});

test("daemon.json: what is wrong with it is said with its name and the place", () => {
  const config = configFile('{\n  "storage-driver": "vfs",\n}');
  const { status, stderr } = lab.lamella("images", "--config", config);
  assert.equal(status, 1);
  assert.match(stderr, new RegExp(`^lamella: ${config}: expected a key \\(line 3\\)\n`));
  assert.match(lab.lamella("images", "--config", "/nowhere.json").stderr, /\/nowhere\.json/);
});

test("options of drivers: aliases, unknown ones, those of others, removed ones", { skip: unsupported }, () => {
  for (const name of ["--storage-opt", "--driver-opt"])
    assert.match(lab.ok("info", name, " Overlay2.Metacopy = off "), /metacopy=off/);
  assert.equal(lab.lamella("info", "--storage-opt", "novalue").status, 2);
  assert.match(
    lab.lamella("info", "--storage-opt", "novalue").stderr,
    /unable to parse storage-opt key\/value: novalue/,
  );
  const foreign = lab.lamella("info", "--storage-opt", "dm.basesize=20G");
  assert.match(
    foreign.stderr,
    /overlay2: unknown option dm\.basesize\nhint: it is an option of the driver devicemapper/,
  );
  const gone = lab.lamella("info", "--storage-opt", "overlay2.override_kernel_check=true");
  assert.match(gone.stderr, /was removed in Docker 24, and has no effect/);
  assert.match(lab.ok("info", "--help"), /dm\.min_free_space=<percent>/);
});

test("two drivers with layers: the user must say which", { skip: unsupported }, () => {
  using two = new CliLab();
  two.importBase(20);
  mkdirSync(join(two.root, "vfs/dir", "0".repeat(64)), { recursive: true });
  const { status, stderr } = two.lamella("images");
  assert.equal(status, 1);
  assert.match(
    stderr,
    /holds layers of overlay2 and vfs\nhint: say which with `--driver overlay2`, or .*lamella migrate/,
  );
  assert.match(two.ok("images", "--driver", "overlay2"), /base/);
  assert.equal(two.ok("images", "-q", "--driver", "vfs"), "");
});

test("info --why: every driver's reason, also when there is no driver", { skip: unsupported }, () => {
  const { drivers = [] } = lab.json<Info>("info", "--why");
  assert.deepEqual(
    drivers.filter(({ chosen }) => chosen).map(({ name }) => name),
    ["overlay2"],
  );
  for (const { chosen, reason } of drivers) assert.match(reason, chosen ? /^chosen: / : /^not (chosen|possible): /);
  mkdirSync(join(lab.directory, "docker-root/image/overlay2/layerdb"), { recursive: true });
  const none = lab.lamella("info", "--why", "--root", join(lab.directory, "docker-root"));
  assert.equal(none.status, 1);
  assert.match(none.stderr, /holds Docker's data\nhint: .*migrate --from-docker/);
  assert.match(none.stdout, /Why vfs:\n not chosen: .*Docker's data/);
});

test("a container's --storage-opt, as Docker has it", { skip: unsupported }, () => {
  lab.importBase(20);
  const unknown = lab.lamella("create", "--storage-opt", "foo=1", "base");
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, /^lamella: Unknown option foo\nhint: the one option of a container is size\n$/);
  assert.match(lab.lamella("create", "--storage-opt", "size=big", "base").stderr, /^lamella: invalid size: 'big'\n/);
  const run = lab.lamella("run", "--storage-opt", "overlay2.size=1G", "base", "true");
  assert.equal(run.status, 125);
  assert.match(run.stderr, /Unknown option overlay2\.size\nhint: options of the driver go before the command's name/);
  assert.match(lab.ok("create", "--storage-opt", "size=0", "base"), /^[0-9a-f]{64}$/);
  // The machines of test/vm have quotas; where there are none, the reason is said.
  const { status, stdout, stderr } = lab.lamella("create", "--storage-opt", "size=1G", "base");
  if (status === 0) assert.match(stdout, /^[0-9a-f]{64}\n$/);
  else
    assert.match(stderr, /^lamella: --storage-opt is supported only for overlay over xfs .*\nhint: here .*; ext4 with/);
});

test("a diff that has to compare two whole trees says why", { skip: unsupported }, () => {
  using vfs = new CliLab({ env: { LAMELLA_DRIVER: "vfs" } });
  const tree = join(vfs.directory, "small");
  mkdirSync(tree);
  writeFileSync(join(tree, "file"), "content");
  vfs.ok("import", tree, "small");
  const container = vfs.ok("create", "small").trim();
  assert.equal(vfs.lamella("diff", container).stderr, "");
  const manifests = join(vfs.root, "vfs/manifests");
  for (const name of readdirSync(manifests)) rmSync(join(manifests, name));
  const { stdout, stderr } = vfs.lamella("diff", container);
  assert.equal(stdout, "");
  assert.equal(stderr, "note: the layer and its parent were compared whole: the manifest is missing or broken\n");
  assert.equal(vfs.lamella("-q", "diff", container).stderr, "");
});
