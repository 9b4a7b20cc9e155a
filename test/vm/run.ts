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
 *   npm run test:vm -- --machines 1       one machine at a time
 *   LAMELLA_TEST_NO_SKIP=1 …              a skipped test is a failure (as in CI)
 *   LAMELLA_VM_CACHE=DIR …                where kernels and images are kept, instead of .cache/vm
 */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    boot: { type: "string" },
    list: { type: "boolean", default: false },
    shell: { type: "boolean", default: false },
    timeout: { type: "string", default: "900" },
    machines: { type: "string", default: String(availableParallelism()) },
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
    const isAsked = values.boot === undefined || values.boot === name;
    if (isAsked && files.length > 0) planned.set(name, { ...boot, files });
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

/** What each boot needs, by its name. */
async function prepare(mirrors: Mirrors, scratch: string): Promise<Map<string, Parts>> {
  const image = prepareImage(mirrors);
  note("image");
  const kernels = [...planned].map(([name, boot]) => [name, prepareKernel(boot.kernel, mirrors)] as const);
  note("kernels");
  const projectDisk = join(scratch, "project.ext4");
  await makeProjectDisk(projectDisk, compiledIn(scratch));
  note("project");
  return new Map(
    kernels.map(([name, kernel]) => [name, { image, kernel, projectDisk, scratch: join(scratch, `machine-${name}`) }]),
  );
}

/** Runs the tests of one machine. */
async function runBoot(name: string, boot: Boot, parts: Parts, inSources: (line: string) => string): Promise<void> {
  const section = report.begin(name, `${boot.about} (${parts.kernel.release})`);
  const limitSec = Math.max(60, Math.round(Number(values.timeout) - secondsSinceStart()));
  // A file that hangs is given up in the machine, so that those after it still run.
  const fileLimitSec = Math.max(30, limitSec - 120);
  const files = boot.files.map((file) => file.replace(/\.ts$/, ".js"));
  const job = {
    boot,
    environment: skipIsFailure ? { LAMELLA_TEST_NO_SKIP: "1" } : {},
    command: ["node", "test/run.js", "--guest", "--jobs", "1", "--timeout", String(fileLimitSec), ...files],
  };
  section.end(await runMachine(parts, job, limitSec, (line) => section.line(inSources(line))));
}

async function runAll(mirrors: Mirrors, scratch: string): Promise<void> {
  const parts = await prepare(mirrors, scratch);
  const inSources = sourcePositions(compiledIn(scratch));
  const waiting = [...planned];
  const runSome = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, boot] = next;
      await runBoot(name, boot, parts.get(name)!, inSources);
    }
  };
  await Promise.all(Array.from({ length: Number(values.machines) }, runSome));
}

async function openShell(mirrors: Mirrors, scratch: string): Promise<void> {
  const parts = await prepare(mirrors, scratch);
  for (const [name, boot] of [...planned].slice(0, 1)) {
    await runShell(parts.get(name)!, { boot, environment: {}, command: ["node", "test/run.js", "--guest"] });
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
  if (values.shell) await openShell(host, scratch);
  else {
    await runAll(host, scratch).catch((error) => report.fail("the machines", String(error)));
    process.exitCode = report.close({ skipIsFailure });
  }
}
