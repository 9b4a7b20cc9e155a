/**
 * Docker as a service of systemd, in a machine that systemd runs: `--watch` finds the daemon behind a socket that systemd made,
 * and its log in the journal; a cure stops and starts service and socket, and so does its undo.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { WatchReport } from "../../../src/doctor/watch/watch.ts";

const id = "naive-diff-metacopy";
/** There is no network to speak of, and no iptables. */
const settings = { "storage-driver": "overlay2", iptables: false, ip6tables: false, bridge: "none" };

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

function doctor(...words: string[]): string {
  const args = ["src/cli/main.js", "doctor", ...words];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  assert.ok(status === 0 || status === 3, stdout + stderr);
  return stdout;
}

const native = (): string => /Native Overlay Diff: (\w+)/.exec(run("docker", "info"))?.[1] ?? "";
const pid = (): string => run("systemctl", "show", "-p", "MainPID", "--value", "docker.service").trim();

test("a service with its socket: watched, cured and undone by systemctl", () => {
  run("groupadd", "-f", "-r", "docker");
  mkdirSync("/etc/docker", { recursive: true });
  writeFileSync("/etc/docker/daemon.json", JSON.stringify(settings));
  run("systemctl", "start", "docker.service");
  assert.equal(native(), "false");
  const first = pid();

  for (const way of ["endpoint", "signal"]) {
    const report: WatchReport = JSON.parse(doctor("--watch", "--samples", "1", "--dump-by", way, "--json"));
    assert.equal(report.pid, Number(first), "not systemd, which holds the socket, too");
    assert.equal(report.log?.source, "journalctl -u docker.service -b");
    assert.match(report.log?.lines[0]?.line ?? "", /Not using native diff for overlay2/);
  }

  assert.equal(doctor("-q").split("\n")[0], id);
  const cured = doctor("--fix", id, "--yes");
  assert.match(cured, /systemctl stop docker\.socket docker\.service\n/);
  assert.match(cured, /docker info: Native Overlay Diff: true/);
  const second = pid();
  assert.notEqual(second, first);
  assert.equal(native(), "true");
  assert.equal(run("systemctl", "is-active", "docker.service", "docker.socket"), "active\nactive\n");
  const watched: WatchReport = JSON.parse(doctor("--watch", "--samples", "1", "--json"));
  assert.equal(watched.pid, Number(second));

  doctor("--undo", id);
  assert.notEqual(pid(), second);
  assert.equal(native(), "false");
  assert.equal(run("systemctl", "is-active", "docker.service", "docker.socket"), "active\nactive\n");
});
