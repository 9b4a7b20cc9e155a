/** `lamella info` against `docker info`, whole commands. */
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { peakOf, wallMs } from "../measure.ts";
import { lamella } from "../places.ts";
import { type Context, median, type Result, type Row } from "../row.ts";

async function run({ places, pairs }: Context): Promise<Result[]> {
  const directory = places.fresh("info");
  await using dockerd = await Dockerd.start(join(directory, "docker"));
  const own = [...lamella, "--root", join(directory, "lamella"), "info"];
  const other = dockerd.command("info");
  const ours: number[] = [];
  const theirs: number[] = [];
  const bare = [process.execPath, "-e", "0"];
  const node: number[] = [];
  for (const command of [own, other, bare]) wallMs(command);
  for (let pair = 0; pair < Math.max(pairs, 15); pair++) {
    ours.push(wallMs(own));
    theirs.push(wallMs(other));
    node.push(wallMs(bare));
  }
  const note = `Node.js alone, starting and ending: ${median(node).toFixed(0)} ms`;
  return [{ work: "info", peer: "docker info", ours, theirs, limit: 2, peakBytes: await peakOf(own), note }];
}

export const info: Row = { name: "info", about: "`lamella info` against `docker info`", run };
