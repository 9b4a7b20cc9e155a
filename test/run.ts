/**
 * The test runner behind `npm test`: every `src/**` and `test/**` file named `*.test.ts`, each in a process of its own, two
 * at a time, reported as they end. What was skipped is listed with its reason, and the last line is always
 * `N passed, N failed, N skipped`, counting tests without the suites around them.
 *
 *   npm test                             everything
 *   npm test -- src/tar diff             files whose path contains one of the words
 *   npm test -- --jobs 1 --timeout 600   one file at a time, ten minutes for each
 *   npm test -- --list                   the files that would run
 *   npm test -- --guest                  also those of test/vm/guest, which are for the machine of `npm run test:vm`
 *   LAMELLA_TEST_FULL=1 npm test -- drivers --timeout 3600    deep chains and long series on every driver (minutes each)
 *   LAMELLA_TEST_NO_SKIP=1 npm test      a skipped test is a failure (as in CI)
 *
 * Compiled in place (`test/run.js`), it runs what has been compiled. The children inherit this process's `--import`, which is
 * what lets Node read the TypeScript sources. Node's `run()` gives up on a whole file when its time is over; the file's
 * process group is not touched, so a test that starts processes ends them itself.
 */
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { extname, join, relative } from "node:path";
import { run } from "node:test";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    jobs: { type: "string", default: String(Math.min(2, availableParallelism())) },
    timeout: { type: "string", default: "900" },
    list: { type: "boolean", default: false },
    guest: { type: "boolean", default: false },
  },
});
const skipIsFailure = process.env.LAMELLA_TEST_NO_SKIP === "1";
/** `.test.ts`, or `.test.js` where all has been compiled in place. */
const ending = `.test${extname(import.meta.filename)}`;
const timeoutSec = Number(values.timeout);
const color = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const paint = (code: number, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);

function testFiles(): string[] {
  const files: string[] = [];
  for (const folder of ["src", "test"]) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      const isGuest = entry.parentPath.startsWith(join(root, "test/vm/guest"));
      if (!entry.isFile() || !entry.name.endsWith(ending) || (isGuest && !values.guest)) continue;
      files.push(join(entry.parentPath, entry.name));
    }
  }
  const wanted = positionals.map((word) => word.replace(/^\.\//, ""));
  return files
    .filter((file) => wanted.length === 0 || wanted.some((word) => relative(root, file).includes(word)))
    .sort();
}

interface Outcome {
  readonly where: string;
  readonly text: string;
}

/** What one file has told so far: which tests are open, and at which depth something has been reported below them. */
interface FileState {
  /** Names of the tests under way, the outermost first. */
  readonly open: string[];
  /** How many of `open` have been printed. */
  printed: number;
  /** Depth of the last outcome: a test at a smaller depth had tests inside. */
  lastDepth: number;
  headed: boolean;
}

const failures: Outcome[] = [];
const skips: Outcome[] = [];
/** Outermost tests and suites with the seconds they took. */
const outermost: [string, number][] = [];
let passed = 0;
let failed = 0;
const states = new Map<string, FileState>();

function stateOf(file: string): FileState {
  let state = states.get(file);
  if (state === undefined) {
    state = { open: [], printed: 0, lastDepth: 0, headed: false };
    states.set(file, state);
  }
  return state;
}

function print(state: FileState, file: string, depth: number, line: string): void {
  if (!state.headed) {
    state.headed = true;
    console.log(paint(1, file));
  }
  for (; state.printed < depth && state.printed < state.open.length; state.printed++) {
    console.log(`${"  ".repeat(state.printed + 1)}▸ ${state.open[state.printed]}`);
  }
  console.log(`${"  ".repeat(depth + 1)}${line}`);
}

/** The text of a failure: the thrown error rather than node:test's wrapper around it, and what caused that. */
function explain(error: unknown): string {
  if (error instanceof Error && "failureType" in error && error.failureType === "testTimeoutFailure") {
    return `gave up after ${timeoutSec} s: the file hangs or needs a longer --timeout; under way: ${underWay()}`;
  }
  const texts: string[] = [];
  let cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  for (; cause instanceof Error; cause = cause.cause) {
    const stack = cause.stack ?? "";
    // node:test rebuilds errors from another process, at times with a stack that does not hold the message.
    texts.push(stack.includes(cause.message) ? stack : `${cause.message}\n${stack}`);
  }
  if (cause !== undefined) texts.push(String(cause));
  return texts.join("\ncaused by: ");
}

/** What began last in each file, by depth: `test:start` comes only when a test is told of, which a hanging one never is. */
const begun = new Map<string, string[]>();

function begin(file: string, depth: number, name: string): void {
  const names = begun.get(file) ?? [];
  names[depth] = name;
  names.length = depth + 1;
  begun.set(file, names);
}

/** A test ended, or a whole file, which takes along what it had begun. */
function end(file: string, depth: number): void {
  const names = begun.get(file);
  if (names !== undefined) names.length = Math.min(names.length, depth);
}

/** A suite shared by files counts for the file it stands in, so all are told. */
function underWay(): string {
  const open = [...begun.values()].filter((names) => names.length > 0);
  return open.map((names) => names.map((name) => name.replace(`${root}/`, "")).join(" › ")).join("; ") || "nothing";
}

interface Report {
  readonly name: string;
  readonly nesting: number;
  readonly file?: string | undefined;
  readonly skip?: string | boolean | undefined;
  readonly details: { readonly duration_ms: number; readonly type?: string | undefined; readonly error?: unknown };
}

/** A file's own outcome: node:test reports one when the file has no tests, dies, or takes too long. */
function isFile(report: Report): boolean {
  return report.nesting === 0 && (report.name === report.file || report.name.endsWith(ending));
}

function finish(report: Report, ok: boolean): void {
  const file = relative(root, report.file ?? report.name);
  const state = stateOf(file);
  const depth = report.nesting;
  const hadTests = state.lastDepth > depth || report.details.type === "suite";
  state.lastDepth = depth;
  if (depth === 0 && !isFile(report)) outermost.push([report.name, report.details.duration_ms / 1000]);
  const where = [file, ...state.open.slice(0, depth), ...(isFile(report) ? [] : [report.name])].join(" › ");
  const took = paint(90, `(${report.details.duration_ms.toFixed(0)} ms)`);
  const skip = report.skip === true ? "no reason given" : report.skip;

  if (!ok) {
    const error = report.details.error;
    const onlyInside = error instanceof Error && "failureType" in error && error.failureType === "subtestsFailed";
    print(state, file, depth, `${paint(31, "✖")} ${isFile(report) ? "the file itself" : report.name} ${took}`);
    if (!onlyInside) {
      failed++;
      failures.push({ where, text: explain(error) });
    }
  } else if (skip !== undefined && skip !== false) {
    skips.push({ where, text: skip || "no reason given" });
    print(state, file, depth, `${paint(33, "﹣")} ${report.name} ${paint(33, `skipped: ${skip}`)}`);
  } else if (isFile(report)) {
    // The end of a file that has nothing more to tell.
  } else if (!hadTests) {
    passed++;
    print(state, file, depth, `${paint(32, "✔")} ${report.name} ${took}`);
  }
  state.open.length = depth;
  state.printed = Math.min(state.printed, depth);
}

function list(title: string, outcomes: readonly Outcome[]): void {
  if (outcomes.length === 0) return;
  console.log(`\n${paint(1, title)}`);
  for (const { where, text } of outcomes) {
    console.log(`  ${where}\n${text.replace(/^/gm, "      ")}`);
  }
}

/** Where the time went. */
function longest(): string {
  const ten = outermost.sort((a, b) => b[1] - a[1]).slice(0, 10);
  return ten.map(([name, seconds]) => `${name} ${seconds.toFixed(0)} s`).join(", ");
}

const files = testFiles();
if (values.list) {
  for (const file of files) console.log(relative(root, file));
} else if (files.length === 0) {
  console.error(`no test file's path contains ${positionals.join(" or ")}`);
  process.exitCode = 2;
} else {
  const startedMs = performance.now();
  const stream = run({ files, concurrency: Number(values.jobs), timeout: timeoutSec * 1000 });
  stream.on("test:start", (data) => {
    const state = stateOf(relative(root, data.file ?? data.name));
    state.open[data.nesting] = data.name;
    state.open.length = data.nesting + 1;
  });
  stream.on("test:dequeue", (data) => begin(data.file ?? data.name, data.nesting, data.name));
  stream.on("test:pass", (data) => {
    end(data.file ?? data.name, data.nesting);
    finish(data, true);
  });
  stream.on("test:fail", (data) => {
    finish(data, false);
    end(data.file ?? data.name, data.nesting);
  });
  stream.on("test:stdout", (data) => void process.stdout.write(data.message));
  stream.on("test:stderr", (data) => void process.stderr.write(data.message));
  // A stream without a reader of its data stops; the events above carry all there is.
  stream.resume();
  stream.on("end", () => {
    list("Skipped", skips);
    list("Failed", failures);
    if (skipIsFailure && skips.length > 0) console.log("\nNothing may be skipped here (LAMELLA_TEST_NO_SKIP=1).");
    if (files.length > 5) console.log(`\nlongest: ${longest()}`);
    console.log(`\n${files.length} files in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
    console.log(`${passed} passed, ${failed} failed, ${skips.length} skipped`);
    process.exitCode = failed > 0 || (skipIsFailure && skips.length > 0) ? 1 : 0;
  });
}
