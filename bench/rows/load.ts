/** Loading a docker archive durably, against unpacking the same layer with tar, and against docker load. */
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { prepareInput } from "../input.ts";
import { output, peakOf, wallMs } from "../measure.ts";
import { lamella } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";

/** Lets what was written before reach the disk, so that nobody's `sync` pays for somebody else's data. */
function settle(): void {
  output(["sync"]);
}

async function run(context: Context): Promise<Result[]> {
  const { places, pairs, log } = context;
  const { root } = prepareInput(context);
  const directory = places.fresh("load");
  const archive = join(directory, "image.tar");
  const layer = join(directory, "layer.tar");
  await using dockerd = await Dockerd.start(join(directory, "docker"));

  log("load: making the archive");
  output(["tar", "-C", root, "-cf", layer, "."]);
  dockerd.docker("import", layer, "bench:base");
  dockerd.docker("save", "-o", archive, "bench:base");
  dockerd.docker("rmi", "bench:base");
  // The very bytes that lie in the archive.
  const member = output(["tar", "-tf", archive])
    .split("\n")
    .find((name) => name.endsWith("/layer.tar"));
  output(["sh", "-c", 'tar -xOf "$0" "$1" >"$2"', archive, member ?? "layer.tar", layer]);

  const store = join(directory, "store");
  const tree = join(directory, "tree");
  const own = [...lamella, "--root", store, "load", "-i", archive];
  const byTar = [
    "sh",
    "-c",
    'mkdir "$1" && tar -xf "$0" -C "$1" --xattrs --xattrs-include="*" && sync -f "$1"',
    layer,
    tree,
  ];
  const byDocker = dockerd.command("load", "-q", "-i", archive);
  const once = (command: readonly string[], clean: () => void): number => {
    // The archive is in the page cache for all of them.
    output(["sh", "-c", 'cat "$0" "$1" >/dev/null', archive, layer]);
    settle();
    const ms = wallMs(command);
    clean();
    return ms;
  };
  const dropStore = (): void => places.remove(store);
  const times = { own: [] as number[], tar: [] as number[], docker: [] as number[] };
  for (let pair = 0; pair < pairs; pair++) {
    log(`load: pair ${pair + 1} of ${pairs}`);
    times.own.push(once(own, dropStore));
    times.tar.push(once(byTar, () => places.remove(tree)));
    times.docker.push(once(byDocker, () => dockerd.docker("rmi", "bench:base")));
  }
  const peakBytes = await peakOf(own);
  const work = "load of a docker archive";
  return [
    { work, peer: "tar -x + sync -f", ours: times.own, theirs: times.tar, limit: 1.3, peakBytes },
    { work, peer: "docker load", ours: times.own, theirs: times.docker, limit: 1 / 3 },
  ];
}

export const load: Row = { name: "load", about: "loading an image durably", run };
