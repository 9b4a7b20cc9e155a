/** Large files through the union file systems: read, written, and copied up. */
import { truncateSync } from "node:fs";
import { join } from "node:path";
import { output, wallMs } from "../measure.ts";
import type { Context, Result, Row } from "../row.ts";
import { compareUnions, type Work } from "../union/compare.ts";

const GIGABYTE = 1 << 30;
const MEBIBYTES = GIGABYTE / 1048576;

function makeLarge(path: string): void {
  output(["dd", "if=/dev/urandom", `of=${path}`, "bs=1M", `count=${MEBIBYTES}`, "status=none"]);
}

async function data(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  makeLarge(join(comparison.lower, "large"));
  const read: Work = { name: "read of 1 GB, first open", limits: { "fuse-overlayfs": 1 / 3, overlay: 1.2 } };
  const write: Work = { name: "write of 1 GB to a new file", limits: { overlay: 1.3 } };
  const appended: Work = { name: "copy-up of 1 GB, ext4", limits: { "fuse-overlayfs": 1 } };
  return await comparison.run([read, write, appended], async ({ target }) => {
    const copy = (from: string, to: string): number => wallMs(["dd", `if=${from}`, `of=${to}`, "bs=1M", "status=none"]);
    const figures: Record<string, number> = { [read.name]: copy(join(target, "large"), "/dev/null") };
    figures[write.name] = wallMs([
      ...["dd", "if=/dev/zero", `of=${join(target, "new")}`],
      ...["bs=1M", `count=${MEBIBYTES}`, "status=none"],
    ]);
    truncateSync(join(target, "new"));
    output(["sync", "-f", comparison.directory]);
    figures[appended.name] = wallMs(["sh", "-c", 'echo >> "$0"', join(target, "large")]);
    return figures;
  });
}

async function reflink(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context, "xfs");
  makeLarge(join(comparison.lower, "large"));
  const appended: Work = { name: "copy-up of 1 GB, xfs with reflink", limits: { "fuse-overlayfs": 1 } };
  return await comparison.run([appended], async ({ target }) => ({
    [appended.name]: wallMs(["sh", "-c", 'echo >> "$0"', join(target, "large")]),
  }));
}

export const unionData: Row = {
  name: "union-data",
  about: "1 GB read, written and copied up through FUSE and the kernel's overlay",
  run: async (context) => [...(await data(context)), ...(await reflink(context))],
};
