/**
 * The whole of Lamella in half a minute, on any Linux machine: no Docker, no registry, no network, no further package.
 *
 *     npm ci && npm run demo
 *
 * Makes a base image from this machine's own files, builds examples/hello on it, looks at a container's changes, runs the
 * image, and writes it as an OCI archive and a docker archive. Everything happens in a throw-away store. Not as root, the
 * demo runs inside a user namespace, as every command of Lamella does by itself.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statfsSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeBaseImage } from "./base-image.mjs";

const project = dirname(dirname(fileURLToPath(import.meta.url)));
const program = join(project, "bin/lamella.js");
const inside = "LAMELLA_DEMO_INSIDE";

if (!existsSync(join(project, "dist/cli/main.js"))) {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: project, stdio: "inherit" });
}
if (process.env[inside] === undefined) {
  // One namespace for the whole demo, so that a container can stay mounted between two commands.
  const again = [program, "unshare", process.execPath, fileURLToPath(import.meta.url)];
  const { status } = spawnSync(process.execPath, again, { stdio: "inherit", env: { ...process.env, [inside]: "1" } });
  process.exit(status ?? 1);
}

const bold = process.stdout.isTTY && !process.env.NO_COLOR ? (/** @type {string} */ s) => `\x1b[1m${s}\x1b[0m` : String;
const { work, driver } = chooseRoot();
const root = join(work, "store");
const environment = { ...process.env, LAMELLA_ROOT: root, ...(driver === undefined ? {} : { LAMELLA_DRIVER: driver }) };

/** Says what comes now. @param {string} text */
function heading(text) {
  console.log(`\n${bold(`== ${text}`)}`);
}

/**
 * Runs a command of Lamella as a user would, shown as it would be typed; its output is the terminal's.
 * @param {...string} args
 */
function lamella(...args) {
  show(args);
  execFileSync(process.execPath, [program, ...args], { stdio: ["ignore", "inherit", "inherit"], env: environment });
}

/**
 * The same for a command whose output is wanted.
 * @param {...string} args
 */
function answerOf(...args) {
  show(args);
  return execFileSync(process.execPath, [program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: environment,
    encoding: "utf8",
    maxBuffer: 1 << 26,
  }).trim();
}

/** @param {string[]} args */
function show(args) {
  const words = args.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word)));
  console.log(bold(`$ lamella ${words.map((word) => word.replace(`${project}/`, "")).join(" ")}`));
}

/** A directory whose file system can hold overlays; where there is none, the driver vfs, which copies. */
function chooseRoot() {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const candidates = [cache, tmpdir(), "/var/tmp", "/dev/shm"].map((directory) => join(directory, "lamella-demo"));
  const writable = [];
  for (const directory of candidates) {
    try {
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory, { recursive: true });
    } catch {
      continue;
    }
    const { bavail, bsize } = statfsSync(directory);
    const probe = spawnSync(process.execPath, [program, "info", "--root", join(directory, "store")], {
      stdio: "ignore",
    });
    const hasRoom = bavail * bsize > 400e6;
    if (hasRoom && probe.status === 0) return { work: directory, driver: undefined };
    rmSync(directory, { recursive: true });
    if (hasRoom) writable.push(directory);
  }
  const [directory] = writable;
  if (directory === undefined) throw new Error(`none of ${candidates.join(", ")} has 400 MB of room`);
  mkdirSync(directory, { recursive: true });
  return { work: directory, driver: "vfs" };
}

/** An owner for the chown step: somebody else where more than one id is mapped, else the only one there is. */
function ownerForChown() {
  const mapped = readFileSync("/proc/self/uid_map", "latin1").trim().split(/\s+/);
  return Number(mapped[2]) > 1000 || mapped.length > 3 ? "1000:1000" : "0:0";
}

/**
 * One line a step that made a layer: what it holds, how long finding that out took and how many entries were looked at,
 * and how many a comparison of the whole trees before and after would have had to read.
 */
async function printSteps() {
  const { Engine } = await import("lamella");
  const engine = await Engine.open({ root, driver });
  const rows = [["STEP", "CHANGED", "LAYER", "DIFF TIME", "LOOKED AT", "NAIVE DIFF"]];
  let layers = 1;
  let before = await engine.countEntries("hello", { layers });
  for (const { text, layer } of report.steps) {
    if (layer === undefined) continue;
    const after = await engine.countEntries("hello", { layers: ++layers });
    const { added, modified, deleted } = layer;
    rows.push([
      text.length > 44 ? `${text.slice(0, 43)}…` : text,
      `+${added} ~${modified} -${deleted}`,
      layer.tarSizeBytes > 1e6
        ? `${(layer.tarSizeBytes / 1e6).toFixed(1)}MB`
        : `${Math.ceil(layer.tarSizeBytes / 1e3)}kB`,
      `${layer.durationMs.toFixed(1)}ms`,
      String(layer.visited),
      String(before + after),
    ]);
    before = after;
  }
  await engine[Symbol.asyncDispose]();
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) {
    console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("   "));
  }
  const looked = rows.slice(1).reduce((sum, row) => sum + Number(row[4]), 0);
  const naive = rows.slice(1).reduce((sum, row) => sum + Number(row[5]), 0);
  console.log(`(entries; +added ~changed -deleted) in all: ${looked} looked at, ${naive} by a naive diff`);
}

heading("A base image from this machine's own files");
const baseRoot = join(work, "base-root");
const base = makeBaseImage({ root: baseRoot, moreData: [join(project, "node_modules")] });
console.log(
  `${base.entries} entries, ${(base.bytes / 1e6).toFixed(0)} MB: ${base.tools.length} tools, the ${base.libraries.length} libraries they load, and data`,
);
lamella("import", baseRoot, "base");
rmSync(baseRoot, { recursive: true });

heading("The driver and this host");
lamella("info");

heading("A build");
const owner = ownerForChown();
if (owner === "0:0")
  console.log("(one id is mapped here: the chown step names the only owner there is, and changes nothing)");
const report = JSON.parse(
  answerOf(
    ...["build", "--json", "-t", "hello", "--no-cache", "--build-arg", `OWNER=${owner}`],
    join(project, "examples/hello"),
  ),
);
lamella("images");
lamella("history", "hello");

heading("What a container changed");
const id = answerOf("create", "hello");
const path = answerOf("mount", id);
console.log(`  (append to built.txt, add a file, remove one, change a mode, below ${path})`);
appendFileSync(join(path, "srv/hello/built.txt"), "and changed by hand\n");
appendFileSync(join(path, "srv/hello/new.txt"), "new\n");
rmSync(join(path, "srv/hello/notes.txt"));
chmodSync(join(path, "data/archive/seen"), 0o600);
answerOf("umount", id);
lamella("diff", id);
answerOf("rm", id);

heading("The image runs");
lamella("run", "--rm", "hello");

heading("The image for other tools");
const archives = [
  { format: "oci-archive", file: join(work, "hello.oci.tar") },
  { format: "docker-archive", file: join(work, "hello.docker.tar") },
];
for (const { format, file } of archives) lamella("save", "--format", format, "-o", file, "hello");

heading("What each step changed, and what finding that out took");
await printSteps();

const left = readFileSync("/proc/self/mountinfo", "latin1")
  .split("\n")
  .filter((line) => line.includes(` ${work}`));
heading("What is left");
for (const { format, file } of archives) {
  console.log(`${format.padEnd(15)} ${file} (${(statSync(file).size / 1e6).toFixed(1)} MB)`);
}
console.log(`${"store".padEnd(15)} ${root}`);
console.log(left.length === 0 ? "no mount is left behind" : `mounts left behind:\n${left.join("\n")}`);
const ownNamespace = !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
console.log(`remove all of it with: ${ownNamespace ? "node bin/lamella.js unshare " : ""}rm -r ${work}`);
process.exitCode = left.length === 0 ? 0 : 1;
