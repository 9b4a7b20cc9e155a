/** The five small changes of the driver benchmarks: done in a mounted tree by us, as a RUN step by dockerd. */
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** One file made at the top, one written to, three made in a directory that is there. */
export function changeFive(tree: string): void {
  writeFileSync(join(tree, "made"), "made");
  appendFileSync(join(tree, "etc/passwd"), "# changed\n");
  for (const name of ["one", "two", "three"]) writeFileSync(join(tree, "etc", name), name);
}

export const changeFiveStep =
  "RUN echo made >/made && echo changed >>/etc/passwd && for n in one two three; do echo $n >/etc/$n; done\n";
