/** The 7-step build, without cache, against dockerd's classic builder: with its native diff, and when it goes naive. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Dockerd } from "../dockerd.ts";
import { prepareInput } from "../input.ts";
import { output, peakOf, wallMs } from "../measure.ts";
import { lamella } from "../places.ts";
import { redirectDirOn } from "../redirect-dir.ts";
import type { Context, Result, Row } from "../row.ts";

async function run(context: Context): Promise<Result[]> {
  const { places, pairs, log } = context;
  const { root, crowded, entries } = prepareInput(context);
  const directory = places.fresh("build");
  const store = join(directory, "store");
  const docker = join(directory, "docker");
  const files = join(directory, "context");
  mkdirSync(files);
  writeFileSync(
    join(files, "Dockerfile"),
    `FROM bench:base
ENV ONE=1
RUN echo one >/one
RUN echo two >/two
RUN rm -rf ${crowded}
RUN touch /three
ENV TWO=2
CMD ["sh"]
`,
  );
  log("build: importing the base");
  output([...lamella, "--root", store, "import", root, "bench:base"]);
  const own = [...lamella, "--root", store, "build", "--no-cache", "--network", "none", "-t", "bench:built", files];
  const args = ["build", "--no-cache", "--network", "none", "-t", "bench:built", files];

  /** Pairs with a dockerd that starts now, and so sees the kernel's parameter as it is. */
  const measure = async (label: string, most: number): Promise<{ ours: number[]; theirs: number[] }> => {
    await using dockerd = await Dockerd.start(docker);
    if (dockerd.docker("images", "-q", "bench:base") === "") {
      output([
        "sh",
        "-c",
        'tar -C "$1" -c . | "$0" -H "$2" import - bench:base >/dev/null',
        "docker",
        root,
        dockerd.host,
      ]);
    }
    const other = dockerd.command(...args);
    const driver = dockerd.docker("info", "--format", "{{.DriverStatus}}");
    log(`build: dockerd says ${driver.trim()}`);
    const ours: number[] = [];
    const theirs: number[] = [];
    wallMs(own);
    wallMs(other, dockerd.options);
    for (let pair = 0; pair < most; pair++) {
      log(`build: ${label}, pair ${pair + 1} of ${most}`);
      output(["sync"]);
      ours.push(wallMs(own));
      output(["sync"]);
      theirs.push(wallMs(other, dockerd.options));
    }
    return { ours, theirs };
  };

  const native = await measure("redirect_dir as it is", pairs);
  const peakBytes = await peakOf(own);
  const work = `7-step build on ${entries} entries`;
  const results: Result[] = [{ work, peer: "dockerd, native diff", ...native, limit: 1 / 4, peakBytes }];
  {
    using redirectDir = redirectDirOn();
    const naive = await measure("redirect_dir=Y", pairs);
    results.push({ work: `${work}, redirect_dir=Y`, peer: "dockerd, naive diff", ...naive, limit: 1 / 30 });
    const on: number[] = [];
    const off: number[] = [];
    for (let pair = 0; pair < pairs * 2; pair++) {
      for (const value of ["Y", "N"] as const) {
        redirectDir.set(value);
        output(["sync"]);
        (value === "Y" ? on : off).push(wallMs(own));
      }
    }
    results.push({ work: `${work}, redirect_dir=Y`, peer: "itself with N", ours: on, theirs: off, limit: 1.1 });
  }
  return results;
}

export const build: Row = { name: "build", about: "the 7-step build", run };
