/**
 * Moves a store and kills itself, the way a power switch would, at the point of the given number: a failpoint of the store, or
 * something that the move tells of its progress. Arguments: what to do, root, target, number or name of the point (0: run to
 * the end), and for another driver the root to move to.
 */
import { writeSync } from "node:fs";
import { finishMigration } from "../../src/migrate/finish.ts";
import { migrateFromDocker } from "../../src/migrate/from-docker.ts";
import type { MigrationProgress } from "../../src/migrate/report.ts";
import { migrateToDocker } from "../../src/migrate/to-docker.ts";
import { migrateToDriver } from "../../src/migrate/to-driver.ts";
import { setFailpointHook } from "../../src/store/failpoints.ts";
import { Store } from "../../src/store/store.ts";

const [what = "", root = "", target = "", where = "0", toRoot] = process.argv.slice(2);
let passed = 0;
const point = (name: string): void => {
  if (++passed !== Number(where) && name !== where) return;
  writeSync(1, name);
  process.kill(process.pid, "SIGKILL");
};
const onProgress = (progress: MigrationProgress): void => {
  const { kind, event } = progress;
  point(kind === "container" ? `${kind} ${progress.container.name} ${event}` : `${kind} ${event}`);
};

if (what === "finish") {
  setFailpointHook(point);
  await finishMigration({ root });
} else {
  await using store = await Store.open({ root, durable: false });
  setFailpointHook(point);
  const move = {
    driver: () => migrateToDriver(store, { driver: target, root: toRoot, onProgress }),
    "to-docker": () => migrateToDocker(store, { root: target, onProgress }),
    "from-docker": () => migrateFromDocker(store, { root: target, onProgress }),
  }[what];
  if (move === undefined) throw new Error(`no such move: ${what}`);
  const { leftOut } = await move();
  if (leftOut.length > 0) throw new Error(JSON.stringify(leftOut));
  setFailpointHook(undefined);
}
