/**
 * The story of the modprobe file, on Debian's kernel, where overlay is a module: it is loaded with metacopy on, somebody turned
 * redirect_dir off, as the advice goes, and Docker is slow still. `doctor` turns both off, loads the module anew, and after a
 * reboot that holds. The machine is booted twice; the second time this file finds what the first has left.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const directory = "/var/lib/doctor-test";
const isAfterReboot = existsSync(directory);
const id = "naive-diff-metacopy";
const trap = "/etc/modprobe.d/advice.conf";
const ours = "/etc/modprobe.d/overlay-native-diff.conf";
const socket = join(directory, "docker.sock");
const pidFile = join(directory, "pid");

/** redirect_dir and metacopy now. */
function parameters(): string {
  return ["redirect_dir", "metacopy"]
    .map((name) => readFileSync(`/sys/module/overlay/parameters/${name}`, "latin1").trim())
    .join("");
}

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

function doctor(...words: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["src/cli/main.js", "doctor", "--only", ...words], {
    encoding: "utf8",
    env: { ...process.env, DOCKER_HOST: `unix://${socket}` },
  });
  return { status, text: stdout + stderr };
}

const native = (): string =>
  /Native Overlay Diff: (\w+)/.exec(run("docker", "-H", `unix://${socket}`, "info"))?.[1] ?? "";

async function startDocker(): Promise<void> {
  const log = openSync(join(directory, "log"), "a");
  const places = ["--data-root", join(directory, "data"), "--exec-root", "/run/doctor-test", "--pidfile", pidFile];
  const args = [
    "-H",
    `unix://${socket}`,
    "-s",
    "overlay2",
    ...places,
    "--iptables=false",
    "--ip6tables=false",
    "--bridge=none",
  ];
  spawn("dockerd", args, { stdio: ["ignore", log, log], detached: true }).unref();
  for (let i = 0; i < 600; i++) {
    if (existsSync(socket) && spawnSync("docker", ["-H", `unix://${socket}`, "version"]).status === 0) return;
    await sleep(100);
  }
  assert.fail(readFileSync(join(directory, "log"), "utf8").slice(-3000));
}

async function stopDocker(): Promise<void> {
  const pid = Number(readFileSync(pidFile, "utf8"));
  process.kill(pid, "SIGTERM");
  while (existsSync(`/proc/${pid}/exe`)) await sleep(50);
}

if (!isAfterReboot)
  test("redirect_dir=off alone does not help; both do, at once and by loading the module anew", async () => {
    // The advice of blog posts, and the module as this host then loads it.
    writeFileSync(trap, "options overlay redirect_dir=off\n");
    run("modprobe", "-r", "overlay");
    run("modprobe", "overlay");
    assert.equal(parameters(), "NY");
    mkdirSync(directory);
    await startDocker();
    assert.equal(native(), "false");
    assert.equal(doctor("-q").text.split("\n")[0], id);
    const { status, text } = doctor("--fix", id, "--yes");
    assert.equal(status, 0, text);
    assert.match(text, /loaded the module overlay anew/);
    assert.match(text, /docker info: Native Overlay Diff: true/);
    assert.match(readFileSync(ours, "utf8"), /^options overlay metacopy=off redirect_dir=off$/m);
    assert.deepEqual([parameters(), native()], ["NN", "true"]);
    await stopDocker();
    writeFileSync("/reboot-wanted", "");
  });
else
  test("after a reboot it is so still; undo brings back what was, also after the next load", async () => {
    assert.equal(parameters(), "NN");
    await startDocker();
    assert.equal(native(), "true");
    const { status, text } = doctor("--undo", id);
    assert.equal(status, 0, text);
    assert.equal(existsSync(ours), false);
    assert.deepEqual([parameters(), native()], ["NY", "false"]);
    await stopDocker();
    run("modprobe", "-r", "overlay");
    run("modprobe", "overlay");
    assert.equal(parameters(), "NY");
  });
