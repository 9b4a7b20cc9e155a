/**
 * A long chain: mount it and read the file of its lowest layer. dockerd takes images of at most 125 layers, to which it adds
 * two for a container; ours has as many below its container's layer.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createContainer, dockerApi } from "../docker-api.ts";
import { Dockerd } from "../dockerd.ts";
import { Helper, output } from "../measure.ts";
import { lamella, repository } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";

const LAYERS = 125;
const TIMES = 20;

async function run({ places, pairs, log }: Context): Promise<Result[]> {
  const at = places.fresh("deep-chain");
  const store = join(at, "store");
  const command = [...lamella, "--root", store, "--driver", "overlay2"];
  const context = join(at, "context");
  mkdirSync(context);
  for (let i = 0; i < LAYERS; i++) writeFileSync(join(context, `f${i}`), `layer ${i}\n`);
  const copies = Array.from({ length: LAYERS }, (_, i) => `COPY f${i} /f${i}\n`).join("");
  writeFileSync(join(context, "Dockerfile"), `FROM scratch\n${copies}`);
  log(`deep chain: building ${LAYERS} layers`);
  output([...command, "build", "-q", "-t", "bench:deep", context]);
  const archive = join(at, "deep.tar");
  output([...command, "save", "-o", archive, "bench:deep"]);
  await using dockerd = await Dockerd.start(join(at, "docker"));
  output(dockerd.command("load", "-i", archive), dockerd.options);
  const theirContainer = await createContainer(dockerd.socket, "bench:deep");
  const ourContainer = output([...command, "create", "bench:deep"]).trim();
  await using helper = new Helper([
    process.execPath,
    join(repository, "dist/bench/peers/driver.js"),
    store,
    "overlay2",
  ]);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let pair = -1; pair < pairs; pair++) {
    log(`deep chain: pair ${pair + 1} of ${pairs}`);
    let own = 0;
    for (let i = 0; i < TIMES; i++) own += (await helper.ask(`read ${ourContainer} f0`)).ms;
    const started = performance.now();
    for (let i = 0; i < TIMES; i++)
      await dockerApi(dockerd.socket, "GET", `/containers/${theirContainer}/archive?path=/f0`);
    const other = performance.now() - started;
    if (pair < 0) continue;
    ours.push(own / TIMES);
    theirs.push(other / TIMES);
  }
  return [
    {
      work: `mount ${LAYERS} layers and a container's, read the lowest file`,
      peer: "dockerd on overlay2: copy it out of a container",
      ours,
      theirs,
      limit: 1,
      peakBytes: helper.peakBytes,
    },
  ];
}

export const deepChain: Row = { name: "deep-chain", about: "a chain of 125 layers, mounted and read", run };
