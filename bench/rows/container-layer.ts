/** Creating, mounting, unmounting and removing a container's layer, driver by driver, against dockerd's create and rm. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createContainer, removeContainer } from "../docker-api.ts";
import { Dockerd } from "../dockerd.ts";
import { loopPlace } from "../loop-place.ts";
import { Helper, output } from "../measure.ts";
import { lamella, repository } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";

const drivers = ["overlay2", "overlay", "btrfs", "vfs", "fuse-overlay"] as const;
/** dockerd's name of a driver, where it is another. */
const dockerNames: Readonly<Record<string, string>> = { "fuse-overlay": "fuse-overlayfs" };
/** Turns for each measurement; the first round, which is not counted, warms both sides up. */
const TIMES = 40;

/** A small image's worth: on vfs both sides copy it for every container. */
function plant(root: string): void {
  mkdirSync(root);
  for (let d = 0; d < 20; d++) {
    mkdirSync(join(root, `d${d}`));
    for (let i = 0; i < 50; i++) writeFileSync(join(root, `d${d}`, `f${i}`), "content");
  }
}

async function measure(context: Context, driver: (typeof drivers)[number], at: string): Promise<Result> {
  const { pairs, log } = context;
  const tree = join(at, "tree");
  plant(tree);
  const store = join(at, "store");
  output([...lamella, "--root", store, "--driver", driver, "import", tree, "bench:small"]);
  await using helper = new Helper([process.execPath, join(repository, "dist/bench/peers/driver.js"), store, driver]);
  await using dockerd = await Dockerd.start(join(at, "docker"), { driver: dockerNames[driver] ?? driver });
  output(["sh", "-c", 'tar -C "$0" -c . | docker -H "$1" import - bench:small >/dev/null', tree, dockerd.host]);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let pair = -1; pair < pairs; pair++) {
    log(`container layers on ${driver}: pair ${pair + 1} of ${pairs}`);
    let own = 0;
    for (let i = 0; i < TIMES; i++) own += (await helper.ask("cycle bench:small")).ms;
    const started = performance.now();
    for (let i = 0; i < TIMES; i++)
      await removeContainer(dockerd.socket, await createContainer(dockerd.socket, "bench:small"));
    const other = performance.now() - started;
    // The first round is for the caches.
    if (pair < 0) continue;
    ours.push(own / TIMES);
    theirs.push(other / TIMES);
  }
  return {
    work: `${driver}: create, mount, unmount, remove a container`,
    peer: `dockerd on ${driver}: create, rm`,
    ours,
    theirs,
    limit: 1 / 3,
    peakBytes: helper.peakBytes,
  };
}

export const containerLayer: Row = {
  name: "container-layer",
  about: "a container's layer made, mounted and removed, on five drivers",
  run: async (context) => {
    const results: Result[] = [];
    for (const driver of drivers) {
      // A new file system for both sides: on one that is old or full, making files may cost more than all else.
      using place = loopPlace(context, driver === "btrfs" ? "btrfs" : "ext4", "4G");
      results.push(await measure(context, driver, place.directory));
    }
    return results;
  },
};
