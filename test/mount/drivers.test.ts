/** The drivers on real file systems, each mounted in a mount namespace of this process's own; then all again in a user namespace. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { overlay2Factory } from "../../src/drivers/overlay2/factory.ts";
import { vfsFactory } from "../../src/drivers/vfs/factory.ts";
import { umount } from "../../src/fs/mounts.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { inUserNamespace, privateMounts } from "../support/overlay-lab.ts";

const base = mkdtempSync(join(tmpdir(), "lamella-drivers-"));
const mounted: string[] = [];
after(() => {
  for (const directory of mounted.reverse()) umount(directory);
  rmSync(base, { recursive: true });
});

const userNamespace = inUserNamespace();
const mounts = userNamespace ? true : privateMounts();

interface Place {
  readonly directory: string;
  readonly skip: string | undefined;
}

/** The file systems tested: the machine's own, and those that can be made in a file. Loop devices go with their mounts;
 * a user namespace has none. */
function place(type: "host" | "tmpfs" | "xfs" | "btrfs"): Place {
  const directory = join(base, type);
  mkdirSync(directory);
  if (mounts !== true) return { directory, skip: mounts };
  if (type === "host") return { directory, skip: undefined };
  try {
    if (type === "tmpfs") execFileSync("mount", ["-t", "tmpfs", "tmpfs", directory], { stdio: "pipe" });
    else {
      const image = join(base, `${type}.img`);
      execFileSync("truncate", ["-s", "512M", image]);
      execFileSync(`mkfs.${type}`, ["-q", image], { stdio: "pipe" });
      execFileSync("mount", ["-o", "loop", image, directory], { stdio: "pipe" });
    }
    mounted.push(directory);
    return { directory, skip: undefined };
  } catch (error) {
    return { directory, skip: `no ${type}: ${String(error).split("\n")[0]}` };
  }
}

const types = userNamespace ? (["host", "tmpfs"] as const) : (["host", "tmpfs", "xfs", "btrfs"] as const);
for (const type of types) {
  const { directory, skip } = place(type);
  const makeHome = (): string => mkdtempSync(join(directory, "home-"));
  const privileged = !userNamespace;
  testDriver(`overlay2 on ${type}`, overlay2Factory, {
    makeHome,
    skip,
    privileged,
    depth: type === "host" ? 500 : 128,
    layerDirectory: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: !userNamespace,
    metadataCopies: !userNamespace,
  });
  testDriver(`vfs on ${type}`, vfsFactory, {
    makeHome,
    skip,
    privileged,
    depth: 20,
    layerDirectory: (home, id) => `${home}/dir/${id}`,
    renamesLowerDirectories: true,
    metadataCopies: false,
  });
}

if (!userNamespace) test("the same in a user namespace", againInUserNamespace);

function againInUserNamespace(t: TestContext): void {
  if (spawnSync("unshare", ["-r", "-m", "true"]).status !== 0) {
    t.skip("user namespaces are not allowed here");
    return;
  }
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const script = ["--test-reporter", "tap", import.meta.filename];
  const command = ["-r", "-m", "--propagation", "private", process.execPath, ...process.execArgv, ...script];
  const { status, stdout } = spawnSync("unshare", command, { env, encoding: "utf8" });
  assert.equal(status, 0, stdout);
  assert.match(stdout, /# fail 0/);
}
