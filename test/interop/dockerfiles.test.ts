/**
 * Every Dockerfile of `dockerfiles/` built by a real dockerd and by us: the configs are equal, history included, and so are
 * the trees: paths, types, modes, owners, times, link targets, devices, attributes, contents, hard links.
 */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Docker, sharedDocker } from "../support/dockerd.ts";
import { treeDifferences } from "../support/flat-tree.ts";
import { readOneImage, treeOf } from "../support/image-archive.ts";
import { baseArchive } from "./base-image.ts";
import { type DockerfileCase, dockerfileCases, prepareContext } from "./dockerfile-cases.ts";
import { comparableConfig } from "./image-config.ts";
import { OurSide } from "./our-side.ts";

const base = baseArchive();
const docker = typeof base === "string" ? base : await sharedDocker();
const naive =
  docker instanceof Docker && !docker.nativeDiff()
    ? "dockerd gives other images here: its diff is naive, since the kernel's overlayfs has redirect_dir on"
    : undefined;
const ours = typeof docker === "string" ? docker : (naive ?? (await OurSide.open()));
const reason = typeof ours === "string" ? ours : undefined;

describe("Dockerfiles give what dockerd makes of them", { skip: reason }, () => {
  const dockerd = docker as Docker;
  const our = ours as OurSide;
  const startedSec = Math.floor(Date.now() / 1000);

  before(async () => {
    dockerd.run(["load"], { input: base as Buffer });
    await our.load(base as Buffer);
  });
  after(() => our[Symbol.asyncDispose]());

  for (const one of dockerfileCases()) {
    test(one.name, async () => {
      const context = mkdtempSync(join(our.directory, "context-"));
      prepareContext(one.name, context);
      if (one.parent !== undefined) {
        await both(
          dockerd.build(context, ["-t", "parent", "-f", join(context, one.parent)]),
          our.build("parent", { context, file: one.parent }),
        );
      }
      await both(
        dockerd.build(context, ["-t", one.name, ...dockerOptions(one)]),
        our.build(one.name, { context, buildArgs: one.buildArgs, target: one.target }),
      );

      const theirs = readOneImage(dockerd.run(["save", one.name]));
      const built = await our.saved(one.name);
      assert.deepEqual(comparableConfig(built), comparableConfig(theirs));
      assert.deepEqual(treeDifferences(treeOf(built), treeOf(theirs), { recentSec: startedSec }), []);
    });
  }
});

/** Waits for both to end, then throws what failed: a build that goes on would disturb the next test. */
async function both(...builds: readonly Promise<void>[]): Promise<void> {
  for (const build of await Promise.allSettled(builds)) if (build.status === "rejected") throw build.reason;
}

function dockerOptions({ buildArgs, target }: DockerfileCase): string[] {
  const args = Object.entries(buildArgs).map(([name, value]) => `--build-arg=${name}=${value}`);
  return target === undefined ? args : [...args, `--target=${target}`];
}
