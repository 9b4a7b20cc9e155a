/**
 * The runner behind `npm run test:vm`: boots Debian's kernels in QEMU and runs in them the tests of `test/vm/guest`, and
 * others that boots.ts names. The last line is always `N passed, N failed, N skipped`, over all machines.
 *
 *   npm run test:vm                       everything
 *   npm run test:vm -- thin quota         files whose path contains one of the words
 *   npm run test:vm -- --boot redirect    what one machine runs
 *   npm run test:vm -- --list             the machines and their files
 *   npm run test:vm -- --shell            a shell in a machine (with --boot, in that one); `exit` ends it
 *   npm run test:vm -- --timeout 1800     half an hour for everything, instead of a quarter
 *   LAMELLA_TEST_NO_SKIP=1 …              a skipped test is a failure (as in CI)
 *   LAMELLA_VM_CACHE=DIR …                where kernels and images are kept, instead of .cache/vm
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Mirrors } from "./apt.ts";
import { allBoots, type Boot } from "./boots.ts";
import { examineHost } from "./host.ts";
import { prepareImage } from "./image.ts";
import { prepareKernel } from "./kernel.ts";
import { type Parts, runMachine, runShell } from "./machine.ts";
import { makeProjectDisk } from "./project-disk.ts";
import { Report } from "./report.ts";
import { sourcePositions } from "./source-positions.ts";

/** For one test file in a machine. */
const fileTimeoutSec = 400;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    boot: { type: "string" },
    list: { type: "boolean", default: false },
    shell: { type: "boolean", default: false },
    timeout: { type: "string", default: "900" },
  },
});
const startedMs = performance.now();
const skipIsFailure = process.env.LAMELLA_TEST_NO_SKIP === "1";

/** The boots asked for, each with the files asked for. */
function plan(): Map<string, Boot> {
  const wanted = (file: string): boolean =>
    positionals.length === 0 || positionals.some((word) => file.includes(word.replace(/^\.\//, "")));
  const planned = new Map<string, Boot>();
  for (const [name, boot] of allBoots()) {
    const files = boot.files.filter(wanted);
    if ((values.boot === undefined || values.boot === name) && files.length > 0) planned.set(name, { ...boot, files });
  }
  return planned;
}

function secondsSinceStart(): number {
  return (performance.now() - startedMs) / 1000;
}

function note(text: string): void {
  console.log(`${text} (${secondsSinceStart().toFixed(0)} s)`);
}

function compiledIn(scratch: string): string {
  return join(scratch, "project");
}

async function prepare(mirrors: Mirrors, scratch: string): Promise<Omit<Parts, "kernel">> {
  const image = prepareImage(mirrors);
  note("image");
  const projectDisk = join(scratch, "project.ext4");
  await makeProjectDisk(projectDisk, compiledIn(scratch));
  note("project");
  return { image, projectDisk, scratch };
}

async function runAll(planned: ReadonlyMap<string, Boot>, mirrors: Mirrors, scratch: string): Promise<void> {
  const prepared = await prepare(mirrors, scratch);
  const inSources = sourcePositions(compiledIn(scratch));
  for (const [name, boot] of planned) {
    const parts = { ...prepared, kernel: prepareKernel(boot.kernel, mirrors) };
    if (values.shell) return runShell(parts, { boot, environment: {}, command: ["node", "test/run.js", "--guest"] });
    report.begin(`${name}: ${boot.about} (${parts.kernel.release})`);
    const limits = ["--jobs", "1", "--timeout", String(fileTimeoutSec)];
    const files = boot.files.map((file) => file.replace(/\.ts$/, ".js"));
    const job = {
      boot,
      environment: skipIsFailure ? { LAMELLA_TEST_NO_SKIP: "1" } : {},
      command: ["node", "test/run.js", "--guest", ...limits, ...files],
    };
    const limitSec = Math.max(1, Math.round(Number(values.timeout) - secondsSinceStart()));
    report.end(name, await runMachine(parts, job, limitSec, (line) => report.line(inSources(line))));
  }
}

const planned = plan();
const report = new Report();
const host = examineHost();
if (planned.size === 0) {
  console.error("no boot and no test file is called that: see --list");
  process.exitCode = 2;
} else if (values.list) {
  for (const [name, boot] of planned) {
    console.log(`${name}: ${boot.about}, Linux ${boot.kernel}`);
    for (const file of boot.files) console.log(`  ${file}`);
  }
} else if (typeof host === "string") {
  for (const [name, boot] of planned) for (const file of boot.files) report.skip(`${name} › ${file}`, host);
  process.exitCode = report.close({ skipIsFailure });
} else {
  const scratch = mkdtempSync(join(tmpdir(), "lamella-vm-"));
  process.once("exit", () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
  try {
    await runAll(planned, host, scratch);
  } catch (error) {
    report.end("the machines", { reason: `cannot be made: ${error}`, console: "" });
  }
  if (!values.shell) process.exitCode = report.close({ skipIsFailure });
}
