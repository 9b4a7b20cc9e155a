/** `lamella info` prints what it says of its driver as the real `docker info` does: same lines, same order, same values. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { CliLab } from "../e2e/cli-harness.ts";
import { Docker } from "../support/dockerd.ts";

const lab = new CliLab();
after(() => lab[Symbol.dispose]());

/** The line with the driver's name and those that belong to it. */
function driverLines(output: string): string[] {
  const lines = output.split("\n");
  const at = lines.findIndex((line) => line.startsWith(" Storage Driver: "));
  assert.ok(at >= 0, output);
  const end = lines.findIndex((line, i) => i > at && !line.startsWith("  "));
  return lines.slice(at, end);
}

/** What Docker 20.10 does not print yet. */
const sinceDocker23 = /^ {2}Using metacopy: /;
/** What is Docker's own way of looking at the host. */
const judgement = /^ {2}Native Overlay Diff: /;

for (const driver of ["overlay2", "overlay", "vfs"]) {
  test(driver, async (t) => {
    const unsupported = lab.unsupported();
    if (unsupported !== undefined) return t.skip(unsupported);
    const docker = await Docker.start({ driver });
    if (typeof docker === "string") return t.skip(docker);
    try {
      const theirs = driverLines(docker.text(["info"]));
      const ours = driverLines(lab.ok("info", "--driver", driver));
      const isNew = !theirs.some((line) => sinceDocker23.test(line));
      const comparable = (lines: string[]): string[] =>
        lines
          .filter((line) => !isNew || !sinceDocker23.test(line))
          .map((line) => (judgement.test(line) ? line.split(":")[0] : line) as string);
      assert.deepEqual(comparable(ours), comparable(theirs));
      const { status } = lab.json<{ status: [string, string][] }>("info", "--driver", driver);
      assert.deepEqual(
        status.map(([key, value]) => `  ${key}: ${value}`),
        ours.slice(1),
      );
    } finally {
      await docker.stop();
    }
  });
}
