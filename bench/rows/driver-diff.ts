/**
 * The diff of five small changes on the large base, driver by driver, against what dockerd's driver of that name takes for a
 * step with as many changes; on zfs, which this dockerd cannot use here, against our own comparison of two whole trees.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { changeFive, changeFiveStep } from "../five-changes.ts";
import { prepareInput } from "../input.ts";
import { loopPlace, poolPlace } from "../loop-place.ts";
import { Helper, output, wallMs } from "../measure.ts";
import { lamella, repository } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";

const STEPS = 3;

interface Side extends AsyncDisposable {
  readonly helper: Helper;
  readonly container: string;
}

/** A store under `root` with the base and one container of it that has the five changes. */
function ourSide(root: string, driver: string, base: string): Side {
  const command = [...lamella, "--root", root, "--driver", driver];
  output([...command, "import", base, "bench:base"]);
  const container = output([...command, "create", "bench:base"]).trim();
  changeFive(output([...command, "mount", container]).trim());
  output([...command, "umount", container]);
  const helper = new Helper([process.execPath, join(repository, "dist/bench/peers/driver.js"), root, driver]);
  return { helper, container, [Symbol.asyncDispose]: () => helper[Symbol.asyncDispose]() };
}

async function againstDocker(context: Context, driver: "btrfs" | "vfs" | "overlay", at: string): Promise<Result[]> {
  const { pairs, log } = context;
  const { root: base, entries } = prepareInput(context);
  log(`${driver} diff: importing the base, ours`);
  await using side = ourSide(join(at, "store"), driver, base);
  const files = join(at, "context");
  mkdirSync(files);
  writeFileSync(join(files, "Dockerfile"), `FROM bench:base\n${changeFiveStep.repeat(STEPS)}`);
  await using dockerd = await Dockerd.start(join(at, "docker"), { driver });
  log(`${driver} diff: importing the base, dockerd's`);
  output(["sh", "-c", 'tar -C "$0" -c . | docker -H "$1" import - bench:base >/dev/null', base, dockerd.host]);
  const build = dockerd.command("build", "--no-cache", "--network", "none", files);

  const ours: number[] = [];
  const copied: number[] = [];
  const theirs: number[] = [];
  await side.helper.ask(`diff ${side.container}`);
  wallMs(build, dockerd.options);
  let changes = "";
  for (let pair = 0; pair < pairs; pair++) {
    log(`${driver} diff: pair ${pair + 1} of ${pairs}`);
    const { answer, ms } = await side.helper.ask(`diff ${side.container}`);
    changes = answer;
    ours.push(ms);
    if (driver === "vfs") copied.push((await side.helper.ask("copy-and-diff bench:base")).ms);
    theirs.push(wallMs(build, dockerd.options) / STEPS);
    // On vfs every step leaves a copy of the base.
    dockerd.docker("image", "prune", "--force");
  }
  const peer = `dockerd on ${driver}, time a step`;
  const work = `${driver}: diff of five changes over ${entries} entries`;
  const peakBytes = side.helper.peakBytes;
  const limit = driver === "overlay" ? 1 / 2 : 1 / 10;
  const results: Result[] = [{ work, peer, ours, theirs, limit, peakBytes, note: `${changes} changes listed` }];
  if (driver === "vfs")
    results.push({ work: "vfs: the same, with the copy it is made on", peer, ours: copied, theirs, limit: 1 / 2 });
  return results;
}

async function againstTwoTrees(context: Context): Promise<Result[]> {
  const { pairs, log } = context;
  const { root: base, entries } = prepareInput(context);
  using place = poolPlace();
  log("zfs diff: importing the base");
  await using side = ourSide(join(place.directory, "store"), "zfs", base);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let pair = -1; pair < pairs; pair++) {
    log(`zfs diff: pair ${pair + 1} of ${pairs}`);
    const native = await side.helper.ask(`diff ${side.container}`);
    const naive = await side.helper.ask(`two-trees ${side.container}`);
    if (native.answer !== naive.answer) throw new Error(`${native.answer} changes, ${naive.answer} by two trees`);
    // The first round warms the caches of both.
    if (pair < 0) continue;
    ours.push(native.ms);
    theirs.push(naive.ms);
  }
  const work = `zfs: diff of five changes over ${entries} entries`;
  return [{ work, peer: "our comparison of two trees", ours, theirs, limit: 1 / 2, peakBytes: side.helper.peakBytes }];
}

export const btrfsDiff: Row = {
  name: "btrfs-diff",
  about: "five changes over the large base, against a step of dockerd on btrfs",
  run: async (context) => {
    using place = loopPlace(context, "btrfs");
    return await againstDocker(context, "btrfs", place.directory);
  },
};

export const vfsDiff: Row = {
  name: "vfs-diff",
  about: "the same on vfs",
  run: async (context) => {
    // Where a file system is full or old, making files may cost more than all else; both sides get a new one.
    using place = loopPlace(context, "ext4", "40G");
    return await againstDocker(context, "vfs", place.directory);
  },
};

export const overlayDiff: Row = {
  name: "overlay-diff",
  about: "the same on overlay (trees of hard links)",
  run: async (context) => {
    using place = loopPlace(context, "ext4");
    return await againstDocker(context, "overlay", place.directory);
  },
};

export const zfsDiff: Row = {
  name: "zfs-diff",
  about: "the same on zfs, against our own comparison of two trees",
  run: againstTwoTrees,
};
