/** A walk of the input against Go's filepath.Walk, both in processes that are running already. */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { prepareInput } from "../input.ts";
import { Helper, installed, output } from "../measure.ts";
import { repository } from "../places.ts";
import { type Context, median, type Result, type Row, Unavailable } from "../row.ts";

async function run(context: Context): Promise<Result[]> {
  if (!installed("go")) throw new Unavailable("go is not installed");
  const { root, entries } = prepareInput(context);
  const directory = context.places.fresh("walk");
  const program = join(directory, "walk");
  output(["go", "build", "-o", program, join(repository, "bench/peers/walk.go")], {
    env: { GOCACHE: join(directory, "cache"), GO111MODULE: "off", GOFLAGS: "" },
  });
  await using go = new Helper([program]);
  await using node = new Helper([process.execPath, join(repository, "dist/bench/peers/walk.js")]);
  const threads = Math.min(4, availableParallelism());
  // Once each, unmeasured: the kernel's caches are warm and the threads run.
  const [first, second] = [await go.ask(root), await node.ask(`${threads} ${root}`)];
  await node.ask(`0 ${root}`);
  if (first.answer.split(" ")[0] !== second.answer.split(" ")[0]) {
    throw new Error(`the walks disagree: ${first.answer} and ${second.answer}`);
  }
  const inOrder: number[] = [];
  const parallel: number[] = [];
  const theirs: number[] = [];
  for (let pair = 0; pair < context.pairs; pair++) {
    parallel.push((await node.ask(`${threads} ${root}`)).ms);
    theirs.push((await go.ask(root)).ms);
    inOrder.push((await node.ask(`0 ${root}`)).ms);
  }
  const note = `in order in one thread: ${median(inOrder).toFixed(0)} ms`;
  const work = `walk of ${entries} entries, ${threads} threads`;
  return [{ work, peer: "Go filepath.Walk", ours: parallel, theirs, limit: 1, peakBytes: node.peakBytes, note }];
}

export const walk: Row = { name: "walk", about: "a tree walk against Go's filepath.Walk", run };
