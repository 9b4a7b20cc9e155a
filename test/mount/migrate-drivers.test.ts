/**
 * Moves between drivers, each on its real backend: images, what `save` writes and what containers changed are the same
 * under the new driver; the old data can be read until the end; the move can be given up.
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { findProgram } from "../../src/fs/find-program.ts";
import { directoryIn, type Place, placeOf } from "../support/file-systems.ts";
import { datasetsBelow, zfsPlace } from "../support/zfs-lab.ts";
import type { Journey } from "./migrate-there-and-back.ts";

const child = fileURLToPath(new URL("./migrate-there-and-back.ts", import.meta.url));

/** Started after the file systems are there, so that all its threads see them, and ended before they go. */
let traveller: ChildProcess | undefined;
after(async () => {
  if (traveller?.kill()) await once(traveller, "exit");
});

const ext4 = placeOf("ext4");
const xfs = placeOf("xfs");
const btrfs = placeOf("btrfs");
const zfs = zfsPlace();
const noFuse = findProgram("fuse-overlayfs") === undefined ? "fuse-overlayfs is not installed" : undefined;

interface Move {
  readonly from: string;
  readonly to: string;
  readonly place: Place;
  /** Into a root of its own there. */
  readonly toPlace?: Place;
  readonly shares: Journey["shares"];
  readonly killed?: true;
}

const moves: readonly Move[] = [
  { from: "overlay2", to: "fuse-overlay", place: ext4, shares: "links", killed: true },
  { from: "overlay2", to: "aufs", place: xfs, shares: "clones", killed: true },
  { from: "overlay2", to: "overlay", place: ext4, shares: "links" },
  { from: "btrfs", to: "overlay", place: btrfs, shares: "clones" },
  { from: "fuse-overlay", to: "zfs", place: zfs, shares: "nothing", killed: true },
  { from: "aufs", to: "vfs", place: ext4, toPlace: ext4, shares: "links" },
  { from: "overlay", to: "overlay", place: xfs, toPlace: xfs, shares: "clones" },
  { from: "btrfs", to: "fuse-overlay", place: btrfs, toPlace: xfs, shares: "nothing" },
  { from: "zfs", to: "overlay2", place: zfs, toPlace: ext4, shares: "nothing" },
  { from: "overlay2", to: "zfs", place: xfs, toPlace: zfs, shares: "nothing", killed: true },
];

/** What went wrong on the way; empty when nothing did. */
async function travel(journey: Journey): Promise<string> {
  traveller ??= fork(child);
  const process = traveller;
  process.send(journey);
  return new Promise((resolve) => {
    const end = (answer: unknown): void => {
      for (const event of ["message", "exit"]) process.off(event, end);
      resolve(String(answer));
    };
    for (const event of ["message", "exit"]) process.on(event, end);
  });
}

for (const { from, to, place, toPlace, shares, killed = false } of moves) {
  const skip = place.skip ?? toPlace?.skip ?? ([from, to].includes("fuse-overlay") ? noFuse : undefined);
  const where = toPlace === undefined ? "in one root" : toPlace === place ? "to a root beside it" : "elsewhere";
  test(`${from} to ${to}, ${where}${killed ? ", killed on its way" : ""}`, { skip, timeout: 180_000 }, async () => {
    const datasets = from === "zfs" ? datasetsBelow(zfs.pool) : [];
    const journey: Journey = {
      from,
      to,
      root: directoryIn(place, "old"),
      toRoot: toPlace && directoryIn(toPlace, "new"),
      shares,
      killed,
      wholeSeconds: [place, toPlace].includes(zfs) && mounterHere() === "daemon",
    };
    const wrong = await travel(journey);
    if (wrong !== "") assert.fail(wrong);
    if (from === "zfs") assert.deepEqual(datasetsBelow(zfs.pool), datasets);
  });
}
