/**
 * `npm run pictures`: takes the pictures in docs/images anew, from a real dockerd that compares whole trees. Needs root, a
 * parameter redirect_dir that can be set, dockerd, chromium and script(1); takes a minute, and leaves nothing but the pictures.
 *
 *     doctor-summary.png   `lamella doctor`, down to the first finding
 *     doctor-measure.png   `sudo lamella doctor --measure`
 *     doctor-flames.png    the page of `--watch --html`, while an image is built
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeTree } from "../../src/doctor/measure/make-tree.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { program, project } from "../e2e/cli-harness.ts";
import { run } from "../support/loop-devices.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { withParameter } from "../support/overlay-parameters.ts";

const columns = 106;
const scratch = mkdtempSync(join(tmpdir(), "lamella-pictures-"));
const pictures = join(project, "docs/images");

/** Puts dockerd where everybody has it, in this process's mounts alone. */
function usualPlaces(): void {
  const ready = privateMounts();
  if (ready !== true) throw new Error(ready);
  for (const name of ["var/docker", "var/dpkg", "home"]) mkdirSync(join(scratch, name), { recursive: true });
  // Whose package runc is stands there.
  run("mount", "--bind", "/var/lib/dpkg", join(scratch, "var/dpkg"));
  run("mount", "--rbind", join(scratch, "var"), "/var/lib");
  run("mount", "-t", "tmpfs", "tmpfs", "/run");
}

async function startDocker(): Promise<ChildProcess> {
  const args = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--log-level=warn"];
  const daemon = spawn("setpriv", ["--pdeathsig", "KILL", ...args], { stdio: "ignore" });
  while (spawnSync("docker", ["version"]).status !== 0) {
    if (daemon.exitCode !== null) throw new Error("dockerd does not start");
    await sleep(100);
  }
  return daemon;
}

async function addImage(name: string, entries: number): Promise<void> {
  const tree = join(scratch, name);
  mkdirSync(tree);
  await makeTree(bytesOfText(tree), { entries });
  run("tar", "-C", tree, "-cf", `${tree}.tar`, ".");
  run("docker", "import", `${tree}.tar`, name);
  rmSync(tree, { recursive: true });
}

/** What a command prints on a terminal. */
function onTerminal(words: readonly string[]): string {
  const command = [...program, ...words].map((word) => `'${word}'`).join(" ");
  const { NO_COLOR: _, ...env } = process.env;
  const { stdout } = spawnSync(
    "script",
    ["-qec", `stty cols ${columns} rows 60; ${command} 2>/dev/null`, "/dev/null"],
    {
      encoding: "utf8",
      env: { ...env, TERM: "xterm-256color", HOME: join(scratch, "home"), LAMELLA_ROOT: join(scratch, "none") },
    },
  );
  return stdout.replaceAll("\r\n", "\n");
}

const colors: Readonly<Record<string, string>> = { 31: "#ff7b6b", 32: "#4ec27a", 33: "#f0bf5c", 36: "#5cc0d6" };

function htmlOf(text: string): string {
  const escaped = text.replace(/[&<>]/g, (one) => `&#${one.charCodeAt(0)};`);
  const colored = escaped.replace(/\x1b\[([0-9;?]*)([A-Za-z])/g, (_, code: string, kind: string) => {
    if (kind !== "m") return "";
    if (code === "1") return "<b>";
    if (code === "2") return '<i style="color:#8b93a3">';
    if (code === "22") return "</b></i>";
    return colors[code] === undefined ? "</span>" : `<span style="color:${colors[code]}">`;
  });
  // Whole blocks without the seams that fonts leave between them.
  return colored.replace(/█+/g, (bar) => `<s style="width:${bar.length}ch"></s>`);
}

/** A window with a command and what it printed. */
function takeTerminal(name: string, command: string, text: string): void {
  const lines = text.trimEnd().split("\n").length + 1;
  const page = `<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #171b24; color: #e4e7ee; font: 12.5px/17.8px "DejaVu Sans Mono", monospace }
header { background: #242936; color: #9aa2b1; padding: 5px 12px; height: 18px; font-family: "DejaVu Sans", sans-serif }
u { display: inline-block; width: 11px; height: 11px; border-radius: 6px; margin-right: 6px; vertical-align: -1px }
pre { margin: 0; padding: 14px 16px; font: inherit }
b { color: #fff } i { font-style: normal } s { display: inline-block; height: 14px; background: currentColor; vertical-align: -3px }
</style><header><u style="background:#ff5f57"></u><u style="background:#febc2e"></u><u style="background:#28c840"></u> ${command}</header>
<pre><span style="color:#4ec27a">$</span> ${command}\n${htmlOf(text.trimEnd())}</pre>`;
  const file = join(scratch, `${name}.html`);
  writeFileSync(file, page);
  takePage(name, file, { width: 860, height: 28 + 28 + Math.ceil(lines * 17.8) });
}

function takePage(name: string, file: string, size: { readonly width: number; readonly height: number }): void {
  const options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=2000"];
  const picture = join(pictures, `${name}.png`);
  execFileSync(
    "chromium",
    [...options, `--window-size=${size.width},${size.height}`, `--screenshot=${picture}`, file],
    {
      stdio: "ignore",
      env: { ...process.env, HOME: join(scratch, "home") },
    },
  );
  console.log(picture);
}

/** The page that is written while an image is built. */
async function watchBuild(): Promise<string> {
  const context = join(scratch, "context");
  mkdirSync(context);
  const names = Array.from({ length: 12 }, (_, i) => `file${i}`);
  for (const name of names) writeFileSync(join(context, name), name);
  writeFileSync(
    join(context, "Dockerfile"),
    `FROM shop-backend\n${names.map((name) => `COPY ${name} /new/\n`).join("")}`,
  );
  const env = { ...process.env, DOCKER_BUILDKIT: "0", DOCKER_CONFIG: join(scratch, "home") };
  const build = spawn("docker", ["build", "--no-cache", context], { env, stdio: "ignore" });
  const page = join(scratch, "flames.html");
  const [file = "", ...args] = program;
  const words = ["doctor", "--watch", "--samples", "60", "--interval", "0.2", "--html", page];
  execFileSync(file, [...args, ...words], { stdio: "ignore" });
  build.kill();
  return page;
}

usualPlaces();
using _redirects = withParameter("redirect_dir", "Y");
const daemon = await startDocker();
try {
  await addImage("shop-backend", 38_000);
  await addImage("tools", 4000);
  const diagnosis = onTerminal(["doctor"]);
  const [summary, verdict, first] = diagnosis.split("\n\n");
  takeTerminal("doctor-summary", "lamella doctor", [summary, verdict, first].join("\n\n"));
  takeTerminal("doctor-measure", "sudo lamella doctor --measure", onTerminal(["doctor", "--measure"]));
  takePage("doctor-flames", await watchBuild(), { width: 1080, height: 1110 });
} finally {
  const ended = new Promise((resolve) => daemon.once("exit", resolve));
  daemon.kill();
  await ended;
  run("umount", "-l", "/var/lib");
  run("umount", join(scratch, "var/dpkg"));
  rmSync(scratch, { recursive: true, force: true });
}
