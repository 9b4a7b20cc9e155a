/** `lamella info` against `docker info`, whole commands. */
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { peakOf, wallMs } from "../measure.ts";
import { lamella } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";

async function run({ places, pairs }: Context): Promise<Result[]> {
  const directory = places.fresh("info");
  await using dockerd = await Dockerd.start(join(directory, "docker"));
  const own = [...lamella, "--root", join(directory, "lamella"), "info"];
  const other = dockerd.command("info");
  const ours: number[] = [];
  const theirs: number[] = [];
  wallMs(own);
  wallMs(other);
  for (let pair = 0; pair < Math.max(pairs, 15); pair++) {
    ours.push(wallMs(own));
    theirs.push(wallMs(other));
  }
  return [{ work: "info", peer: "docker info", ours, theirs, limit: 2, peakBytes: await peakOf(own) }];
}

export const info: Row = { name: "info", about: "`lamella info` against `docker info`", run };
