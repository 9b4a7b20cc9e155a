/**
 * Containers on real mounts, in each engine this host has: as root, and again in a user namespace with one id, for which
 * the file runs itself.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ContainerSpec } from "../../src/build/runtime/container-spec.ts";
import { StepThreads } from "../../src/build/step-threads.ts";
import type { LayerView } from "../../src/drivers/driver.ts";
import { isLamellaError } from "../../src/errors/lamella-error.ts";
import { findProgram } from "../../src/fs/find-program.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { busyboxMissing, makeBusyboxRoot, temporaryDirectory } from "../support/busybox-root.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";

const searchPath = (process.env.PATH ?? "").split(":").concat("/usr/sbin", "/sbin");
const nested = inUserNamespace();
const missing = busyboxMissing() ?? (process.getuid?.() === 0 ? undefined : "needs root, or a user namespace");
const directory = temporaryDirectory("lamella-sandbox-");
after(() => directory[Symbol.dispose]());

let count = 0;
function newView(): Extract<LayerView, { kind: "overlay" }> {
  const at = join(directory.path, `layer${count++}`);
  mkdirSync(join(at, "upper"), { recursive: true });
  mkdirSync(join(at, "work"));
  const lower = join(directory.path, "base");
  if (!existsSync(lower)) makeBusyboxRoot(lower);
  return {
    kind: "overlay",
    lowers: [bytesOfText(lower)],
    upper: bytesOfText(join(at, "upper")),
    work: bytesOfText(join(at, "work")),
    options: { redirectDir: undefined, metacopy: undefined, index: "off", userxattr: nested },
  };
}

const mounts = (): string => readFileSync("/proc/self/mountinfo", "utf8");

for (const engine of ["builtin", "crun", "runc"] as const) {
  const installed = engine === "builtin" || findProgram(engine, searchPath) !== undefined;
  const skip =
    missing ??
    (installed ? undefined : `${engine} is not installed`) ??
    (engine === "runc" && nested ? "runc needs cgroups, which a user namespace without delegation has not" : undefined);

  describe(`${engine}${nested ? " in a user namespace" : ""}`, { skip }, () => {
    const scratch = join(directory.path, `scratch-${engine}`);
    mkdirSync(scratch);
    const threads = new StepThreads({ scratch, searchPath, engine, parallelism: 2 });
    after(() => threads[Symbol.asyncDispose]());

    async function run(command: string | readonly string[], more: Partial<ContainerSpec> = {}, signal?: AbortSignal) {
      const out = { stdout: "", stderr: "" };
      const args = typeof command === "string" ? ["sh", "-c", command] : command;
      const spec: ContainerSpec = { root: newView(), args, env: [], network: "host", ...more };
      const exit = await threads.runContainer(spec, {
        signal,
        onOutput: ({ stream, chunk }) => {
          out[stream] += Buffer.from(chunk).toString();
        },
      });
      return { ...exit, ...out, root: spec.root as Extract<LayerView, { kind: "overlay" }> };
    }

    test("runs a command, streams its output and leaves nothing in the layer", async () => {
      const before = mounts();
      const result = await run("echo out; echo err >&2; cat /etc/hosts; ls /proc/1 /sys /dev/pts >/dev/null");
      assert.equal(result.exitCode, 0, result.stderr);
      assert.match(result.stdout, /^out\n127\.0\.0\.1\tlocalhost/);
      assert.equal(result.stderr, "err\n");
      assert.equal(result.unchanged, true);
      assert.deepEqual(readdirSync(result.root.upper ?? ""), []);
      assert.equal(mounts(), before);
      assert.deepEqual(readdirSync(scratch), []);
    });

    test("keeps what the command writes, and directories as they were", async () => {
      const result = await run("echo x > /etc/new && stat -c '%a %u' /etc");
      assert.equal(result.unchanged, false);
      assert.equal(result.stdout, "755 0\n");
      assert.deepEqual(readdirSync(`${result.root.upper}/etc`), ["new"]);
    });

    test("reports exit codes, and what cannot be started as docker run does", async () => {
      assert.equal((await run("exit 3")).exitCode, 3);
      assert.equal((await run("sh -c 'kill -9 $$'; exit $?")).exitCode, 137);
      await assert.rejects(run(["nope"]), { code: "COMMAND_NOT_FOUND" });
      await assert.rejects(run(["/etc/passwd"]), { code: "COMMAND_NOT_EXECUTABLE" });
    });

    // H60
    test("leaks no descriptor", async () => {
      const { stdout } = await run("ls /proc/self/fd");
      const shown = stdout.trim().split("\n");
      // `ls` has the directory itself open as 3.
      assert.deepEqual(
        shown.filter((fd) => fd !== "3"),
        ["0", "1", "2"],
      );
    });

    test("gives Docker's capabilities to root and none to others", { skip: nested && "one id only" }, async () => {
      const caps = async (user?: string) =>
        /CapBnd:\t(\w+)[\s\S]*/.exec((await run("grep Cap /proc/self/status", { ...(user ? { user } : {}) })).stdout)
          ?.input;
      const root = (await caps()) ?? "";
      for (const set of ["Prm", "Eff", "Bnd"]) assert.match(root, new RegExp(`Cap${set}:\\t00000000a80425fb`));
      for (const set of ["Inh", "Amb"]) assert.match(root, new RegExp(`Cap${set}:\\t0000000000000000`));
      const bob = (await caps("bob")) ?? "";
      for (const set of ["Prm", "Eff", "Inh", "Amb"]) assert.match(bob, new RegExp(`Cap${set}:\\t0000000000000000`));
    });

    test("runs as a user of the image with his groups and home", { skip: nested && "one id only" }, async () => {
      assert.equal(
        (await run("id; echo $HOME", { user: "bob" })).stdout,
        "uid=1000(bob) gid=1000(bob) groups=10(wheel),1000(bob)\n/home/bob\n",
      );
      assert.equal((await run("id -u; id -g", { user: "65532:65531" })).stdout, "65532\n65531\n");
      assert.equal((await run("id -u")).stdout, "0\n");
      await assert.rejects(run("id", { user: "nobody-here" }), { code: "UNKNOWN_USER" });
    });

    if (nested) {
      test("says what is missing when an id is not mapped", async () => {
        await assert.rejects(run("id", { user: "bob" }), { code: "UNMAPPED_ID" });
      });
    }

    test("has no network but the loopback with none", async () => {
      const { stdout } = await run("ip -o link | wc -l; ip -o link show lo | grep -c UP; cat /etc/resolv.conf", {
        network: "none",
      });
      assert.equal(stdout, "1\n1\n");
    });

    test("shows of processes only its own, and not the root of the first", async () => {
      const { stdout } = await run(
        "ls -d /proc/[0-9]* | wc -l; ls /proc/1/root/ 2>/dev/null | grep -c lost || echo hidden",
      );
      const [processes = "99", root] = stdout.trim().split("\n");
      assert.ok(Number(processes) < 8, stdout);
      assert.match(root ?? "", /^(0|hidden)$/);
    });

    test("keeps /proc/sys and /sys read-only", async () => {
      const { stdout } = await run(
        "(echo 1 > /proc/sys/vm/swappiness) 2>&1; (mkdir /sys/fs/x) 2>&1; test -s /proc/kcore || echo masked",
      );
      assert.match(stdout, /Read-only[\s\S]*(Read-only|denied|permitted)[\s\S]*masked/);
    });

    test("ends what the command leaves running", async () => {
      const result = await run("sleep 300 & echo started");
      assert.equal(result.stdout, "started\n");
      assert.doesNotMatch((await run("ps")).stdout, /sleep 300/);
    });

    test("starts in the working directory, which it makes", async () => {
      const { stdout, root } = await run("pwd", { cwd: "/a/b" });
      assert.equal(stdout, "/a/b\n");
      assert.ok(existsSync(`${root.upper}/a/b`));
    });

    // H53, CVE-2024-21626
    test("starts in no directory outside its root", async () => {
      const attempt = run("pwd; ls ../../.. | head -1", { cwd: "/proc/self/fd/8" });
      const shown = await attempt.then(
        ({ stdout }) => stdout,
        (error: Error) => error.message,
      );
      assert.doesNotMatch(shown, /lost\+found|boot/);
    });

    test("mounts files, tmpfs and directories of the host inside the root, whatever links are there", async () => {
      const root = newView();
      spawnSync("ln", ["-s", directory.path, `${root.upper}/out`]);
      const { stdout } = await run(
        "cat /run/secrets/token; ls /out; touch /scratch/x && echo writable; cat /shared/etc/group | head -1",
        {
          root,
          mounts: [
            {
              kind: "file",
              content: Buffer.from("secret\n"),
              target: "/run/secrets/token",
              mode: 0o400,
              uid: 0,
              gid: 0,
            },
            { kind: "tmpfs", target: "/scratch" },
            // H58, CVE-2024-9407: the target is a link that leads to a path of the host.
            { kind: "tmpfs", target: "/out" },
            {
              kind: "bind",
              source: { kind: "host", path: bytesOfText(join(directory.path, "base")) },
              target: "/shared",
              readOnly: true,
            },
          ],
        },
      );
      assert.equal(stdout, "secret\nwritable\nroot:x:0:\n");
      assert.ok(existsSync(join(directory.path, "base/bin/sh")));
    });

    test("aborting kills everything and leaves no mount", async () => {
      const before = mounts();
      const abort = new AbortController();
      const running = run("sleep 600 & sleep 600", {}, abort.signal);
      setTimeout(() => abort.abort(), 300);
      await assert.rejects(running, (error) => isLamellaError(error, "canceled"));
      assert.equal(mounts(), before);
      assert.equal((await run("echo again")).stdout, "again\n");
    });
  });
}

test("kill -9 of Lamella ends the container and its mounts", { skip: missing }, async () => {
  newView();
  const marker = `31${process.pid}`;
  const child = spawn(
    process.execPath,
    [...process.execArgv, join(import.meta.dirname, "../support/sleeping-container.ts"), directory.path, marker],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await new Promise<void>((resolve) => child.stdout.on("data", (chunk) => String(chunk).includes("up") && resolve()));
  const alive = (): boolean =>
    spawnSync("ps", ["-eo", "args"], { encoding: "utf8" })
      .stdout.split("\n")
      .some((line) => line.trim() === `sleep ${marker}`);
  assert.ok(alive());
  child.kill("SIGKILL");
  for (let i = 0; i < 100 && alive(); i++) await sleep(50);
  assert.ok(!alive());
});

test("the same in a user namespace", { skip: missing ?? (nested ? "this is it" : undefined) }, (t) => {
  const probe = spawnSync("unshare", ["-U", "-r", "-m", "true"]);
  if (probe.status !== 0) {
    t.skip("user namespaces are not allowed here");
    return;
  }
  const args = ["-U", "-r", "-m", process.execPath, ...process.execArgv.filter((arg) => !arg.startsWith("--test"))];
  const env = { ...process.env, NODE_TEST_CONTEXT: "" };
  const again = spawnSync("unshare", [...args, import.meta.filename], { encoding: "utf8", timeout: 120_000, env });
  assert.equal(again.status, 0, again.stdout + again.stderr);
});
