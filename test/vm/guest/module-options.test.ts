/**
 * overlay2 where the module of overlay was loaded with `redirect_dir=on metacopy=on`, as some distributions do: what a
 * layer's upper holds, what its diff says and how much that looks at are the same as without, since the mount options decide.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { exportLayer, listChanges } from "../../../src/diff/export-layer.ts";
import type { Driver, LayerId } from "../../../src/drivers/driver.ts";
import { newLayerId } from "../../../src/drivers/layer-id.ts";
import { overlay2Factory } from "../../../src/drivers/overlay2/factory.ts";
import { umount } from "../../../src/fs/mounts.ts";
import { run } from "../../support/loop-devices.ts";
import { sh } from "../../support/overlay-lab.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-module-options-"));
after(() => rmSync(directory, { recursive: true }));

const parameters = ["redirect_dir", "metacopy"] as const;
const parameter = (name: string): string => `/sys/module/overlay/parameters/${name}`;

function setParameters(value: "Y" | "N"): void {
  for (const name of parameters) writeFileSync(parameter(name), value);
}

test("the module's options hold for a mount that names none", () => {
  for (const name of parameters) assert.equal(readFileSync(parameter(name), "utf8"), "Y\n", name);
  const at = mkdtempSync(join(directory, "plain-"));
  for (const name of ["lower/dir", "upper", "work", "merged"]) mkdirSync(join(at, name), { recursive: true });
  run(
    "mount",
    "-t",
    "overlay",
    "overlay",
    "-o",
    `lowerdir=${at}/lower,upperdir=${at}/upper,workdir=${at}/work`,
    `${at}/merged`,
  );
  try {
    // Without redirect_dir the kernel refuses with EXDEV.
    renameSync(join(at, "merged/dir"), join(at, "merged/moved"));
    assert.match(attributes(join(at, "upper")), /trusted\.overlay\.redirect/);
  } finally {
    umount(join(at, "merged"));
  }
});

const base = `
  mkdir -p etc usr/share many; echo config > etc/config; echo tool > usr/tool; echo doc > usr/share/doc
  for i in $(seq 300); do : > many/$i; done`;
const steps = [
  "mv usr/share usr/moved; chown 7 usr/tool; echo more >> etc/config",
  "rm usr/moved/doc; mv usr renamed; mkdir usr; echo again > usr/tool",
  "chmod 700 renamed/tool; rm -r etc; mkdir etc; echo new > etc/new",
];

function attributes(path: string): string {
  return run(
    "getfattr",
    "--absolute-names",
    "-R",
    "-h",
    "-d",
    "-m",
    "trusted.overlay.(redirect|metacopy|opaque)",
    path,
  );
}

interface Layer {
  readonly changes: readonly string[];
  readonly visited: number;
  readonly tarSizeBytes: number;
  readonly attributes: string;
}

async function build(driverOptions: Readonly<Record<string, string>>): Promise<Layer[]> {
  const home = mkdtempSync(join(directory, "home-"));
  const driver = await overlay2Factory.open(home, driverOptions);
  assert.deepEqual(driver.status().find(([name]) => name === "Native Overlay Diff")?.[1], "true");
  const layers: Layer[] = [];
  let parent: LayerId | undefined;
  // A rename with mv falls back to a copy where redirect_dir is off: both are to be the same under either parameter.
  for (const step of [base, ...steps]) {
    const id = newLayerId();
    await driver.create(id, parent);
    {
      await using mounted = await driver.mount(id);
      sh(step, mounted.path);
    }
    layers.push(await look(driver, id));
    parent = id;
  }
  return layers;
}

async function look(driver: Driver, id: LayerId): Promise<Layer> {
  await using source = await driver.diffSource(id);
  assert.equal(source.value.kind, "upper");
  const changes = await listChanges(source.value);
  const { visited, tarSizeBytes } = await exportLayer({ source: source.value });
  return {
    changes: changes.map(({ kind, path }) => `${kind} ${path}`),
    visited,
    tarSizeBytes,
    attributes: attributes(`${driver.home}/${id}/diff`).replaceAll(`${driver.home}/${id}`, ""),
  };
}

const off = { "overlay2.redirect_dir": "off", "overlay2.metacopy": "off" };
for (const [name, driverOptions] of Object.entries({ "options of the driver's choice": {}, "both off": off })) {
  test(`layers, diffs and entries visited are the same: ${name}`, async () => {
    const withParameters = await build(driverOptions);
    setParameters("N");
    try {
      assert.deepEqual(withParameters, await build(driverOptions));
    } finally {
      setParameters("Y");
    }
    const redirects = withParameters.some((layer) => /overlay\.(redirect|metacopy)/.test(layer.attributes));
    assert.equal(redirects, driverOptions !== off);
    for (const { visited } of withParameters.slice(1)) assert.ok(visited < 40, `${visited} entries visited`);
  });
}
