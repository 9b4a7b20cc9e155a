/** The two-tree diff between two overlay mounts of the input, against a step of dockerd in naive mode. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { prepareInput } from "../input.ts";
import { Helper, output, wallMs } from "../measure.ts";
import { repository } from "../places.ts";
import { redirectDirOn } from "../redirect-dir.ts";
import type { Context, Result, Row } from "../row.ts";

const STEPS = 3;

/** Mounts the parent's view and the layer's in a namespace that ends with the helper, changes a file, becomes the helper. */
const mountAndRun = `set -eu
cd "$1"
mkdir empty upper work parent tree
mount -t overlay overlay -o "ro,lowerdir=empty:$2" parent
mount -t overlay overlay -o "index=off,lowerdir=$2,upperdir=upper,workdir=work" tree
touch tree/three
shift 2
exec "$@"`;

async function run(context: Context): Promise<Result[]> {
  const { places, pairs, log } = context;
  const { root, entries } = prepareInput(context);
  const directory = places.fresh("naive");
  const files = join(directory, "context");
  mkdirSync(files);
  const steps = Array.from({ length: STEPS }, (_, i) => `RUN touch /three${i}\n`);
  writeFileSync(join(files, "Dockerfile"), `FROM bench:base\n${steps.join("")}`);

  using _on = redirectDirOn();
  await using dockerd = await Dockerd.start(join(directory, "docker"));
  log("naive diff: importing the base into dockerd");
  output(["sh", "-c", 'tar -C "$0" -c . | docker -H "$1" import - bench:base >/dev/null', root, dockerd.host]);
  const build = dockerd.command("build", "--no-cache", "--network", "none", files);

  const mounts = places.fresh("mounts");
  const peer = join(repository, "dist/bench/peers/diff.js");
  const unshare = ["unshare", "-m", "--propagation", "private", "sh", "-c", mountAndRun, "sh"];
  await using helper = new Helper([...unshare, mounts, root, process.execPath, peer]);
  const task = `naive ${join(mounts, "parent")} ${join(mounts, "tree")}`;

  const ours: number[] = [];
  const theirs: number[] = [];
  await helper.ask(task);
  wallMs(build, dockerd.options);
  let changes = "";
  for (let pair = 0; pair < pairs; pair++) {
    log(`naive diff: pair ${pair + 1} of ${pairs}`);
    const { answer, ms } = await helper.ask(task);
    changes = answer;
    ours.push(ms);
    theirs.push(wallMs(build, dockerd.options) / STEPS);
  }
  return [
    {
      work: `naive diff of two merged trees of ${entries} entries`,
      peer: "dockerd naive, time a step",
      ours,
      theirs,
      limit: 1 / 5,
      peakBytes: helper.peakBytes,
      note: `${changes} changes`,
    },
  ];
}

export const naiveDiff: Row = { name: "naive-diff", about: "the two-tree diff against a naive step of dockerd", run };
