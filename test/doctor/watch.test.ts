/** The parts of `doctor --watch` and `--measure` that need no daemon. */
import assert from "node:assert/strict";
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostView } from "../../src/doctor/host-view.ts";
import { dockerWalk } from "../../src/doctor/measure/docker-walk.ts";
import { html } from "../../src/doctor/report/html.ts";
import { activitiesOf, isWork } from "../../src/doctor/watch/activity.ts";
import { knownLines, readDaemonLog } from "../../src/doctor/watch/daemon-log.ts";
import { daemonOf } from "../../src/doctor/watch/find-daemon.ts";
import { lookAt, watch } from "../../src/doctor/watch/watch.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { O_DIRECTORY, O_RDONLY } from "../../src/sys/constants.ts";
import { open } from "../../src/sys/syscalls.ts";
import { MadeHost } from "./made-host.ts";

test("what a stack is in, by the names of moby and Go", () => {
  const graphdriver = "github.com/docker/docker/daemon/graphdriver";
  const buildkit = "github.com/docker/docker/vendor/github.com/moby/buildkit";
  const cases: [string[], string[]][] = [
    [[`${graphdriver}.(*NaiveDiffDriver).Diff`, "golang.org/x/sys/unix.Lgetxattr"], ["naive-diff"]],
    [[`${graphdriver}.(*NaiveDiffDriver).Diff.func3`, "time.Sleep"], ["naive-diff"]],
    [
      [
        `${graphdriver}.(*NaiveDiffDriver).Diff`,
        `${graphdriver}/overlay2.(*Driver).Get`,
        "golang.org/x/sys/unix.Mount",
      ],
      ["naive-diff", "mount"],
    ],
    [[`${graphdriver}.(*NaiveDiffDriver).ApplyDiff`, "github.com/docker/docker/pkg/archive.UnpackLayer"], ["unpack"]],
    [
      ["github.com/docker/docker/pkg/archive.TarWithOptions.func1", "compress/flate.(*compressor).close"],
      ["native-diff", "gzip"],
    ],
    // BuildKit, which has all layers of an image diffed at its end, beside each other.
    [
      [
        "github.com/docker/docker/builder/builder-next/adapters/snapshot.(*snapshotter).EnsureLayer.func2",
        `${graphdriver}/overlay2.(*Driver).Diff`,
        `${graphdriver}.(*NaiveDiffDriver).Diff`,
        "github.com/docker/docker/pkg/archive.ChangesDirs",
      ],
      ["naive-diff"],
    ],
    [["github.com/docker/docker/pkg/archive.ExportChanges.func1"], ["naive-diff"]],
    [[`${graphdriver}/vfs.(*Driver).Create`, `${graphdriver}/copy.DirCopy`, "path/filepath.Walk"], ["copy"]],
    [[`${buildkit}/executor/runcexecutor.(*runcExecutor).Run`, "github.com/containerd/go-runc.Run"], ["container"]],
    [[`${buildkit}/executor/runcexecutor.(*runcExecutor).Run.func2`], []],
    [["os.(*File).Sync", "internal/poll.(*FD).Fsync", "syscall.Fsync"], ["sync"]],
    [["sync.(*Mutex).Lock", "main.unmounted"], []],
  ];
  for (const [frames, expected] of cases) assert.deepEqual(activitiesOf(frames), expected, frames.join(" > "));
});

test("only goroutines that keep a build waiting count", () => {
  const base = { id: 1, waitMinutes: 0, createdBy: undefined };
  const layer = ["github.com/docker/docker/layer.(*layerStore).Register"];
  const build = ["github.com/docker/docker/builder/dockerfile.(*Builder).build", "io.(*pipe).read"];
  assert.equal(isWork({ ...base, state: "syscall", frames: layer }), true);
  assert.equal(isWork({ ...base, state: "select", frames: layer }), false);
  for (const name of ["moby/v2/daemon/internal/layer.(*layerStore).Register", "go-archive.ChangesDirs"])
    assert.equal(isWork({ ...base, state: "runnable", frames: [`github.com/moby/${name}`] }), true, name);
  assert.equal(isWork({ ...base, state: "select", frames: build }), true);
  const command = ["github.com/moby/buildkit/executor/containerdexecutor.(*containerdExecutor).Run"];
  assert.equal(isWork({ ...base, state: "chan receive", frames: command }), true);
  const solver = ["github.com/moby/buildkit/solver.(*sharedOp).Exec", "github.com/moby/buildkit/solver.(*edge).execOp"];
  assert.equal(isWork({ ...base, state: "select", frames: solver }), false);
  assert.equal(isWork({ ...base, state: "running", frames: ["net/http.(*conn).serve"] }), false);
  assert.deepEqual(lookAt("nothing\n").samples, []);
});

test("known lines of a log: the last of each kind, and what they mean", () => {
  const log = `level=info msg="API listen on /run/docker.sock"
level=warning msg="Not using native diff for overlay2, this may cause degraded performance: old"
level=error msg="write /x: no space left on device"
level=warning msg="Not using native diff for overlay2, this may cause degraded performance: new"
`;
  const found = knownLines(log);
  assert.deepEqual(
    found.map(({ line }) => line.slice(line.indexOf("msg="))),
    [
      'msg="write /x: no space left on device"',
      'msg="Not using native diff for overlay2, this may cause degraded performance: new"',
    ],
  );
  assert.match(found[1]?.means ?? "", /comparison of whole trees/);
});

test("the process that holds a socket: not another dockerd, not systemd, and by a link to the socket, too", async () => {
  await using host = new MadeHost();
  host.write({ "/run/docker.sock": "", "/srv/other.sock": "" });
  host.link("/nowhere", "/var/log/x");
  symlinkSync("../run", join(host.prefix, "var/run"));
  const head = "Num RefCount Protocol Flags Type St Inode Path\n";
  const table = `${head}0000000000000000: 00000002 00000000 00010000 0001 01 41 /srv/other.sock
0000000000000000: 00000002 00000000 00010000 0001 01 42 /run/docker.sock
0000000000000000: 00000003 00000000 00000000 0001 03 43 /run/docker.sock
`;
  for (const [pid, name, inode] of [
    ["1", "systemd", "42"],
    ["7", "dockerd", "41"],
    ["8", "dockerd", "42"],
    ["9", "dockerd", "43"],
  ] as const) {
    host.write({
      [`/proc/${pid}/comm`]: `${name}\n`,
      [`/proc/${pid}/cmdline`]: "dockerd\0--exec-root=/run/x\0",
      [`/proc/${pid}/net/unix`]: table,
    });
    host.link(`socket:[${inode}]`, `/proc/${pid}/fd/3`);
  }
  const view = new HostView(host.prefix);
  assert.equal(daemonOf(view, "/run/docker.sock")?.pid, 8);
  assert.equal(daemonOf(view, "/var/run/docker.sock")?.pid, 8);
  assert.equal(daemonOf(view, "/srv/other.sock")?.execRoot, "/run/x");
  assert.equal(daemonOf(view, "/run/nobodys.sock"), undefined);
});

test("a log that is not there is said", async () => {
  await using host = new MadeHost();
  host.write({ "/var/log/docker.log": 'level=warning msg="Not using native diff for overlay2"\n' });
  const view = new HostView(host.prefix);
  assert.match(readDaemonLog(view, undefined, "/var/log/docker.log")?.text ?? "", /native diff/);
  assert.equal(readDaemonLog(view, undefined, "/var/log/none"), undefined);
  assert.deepEqual(view.unseen, [{ what: "/var/log/none", why: "there is no such log" }]);
});

test("Docker's walk: finds what Docker finds, passes over hard links, misses what keeps size and time", async () => {
  const top = mkdtempSync(join(tmpdir(), "lamella-walk-"));
  try {
    for (const side of ["parent", "tree"]) {
      mkdirSync(join(top, side, "same/below"), { recursive: true });
      for (const name of ["same/below/file", "grown", "gone", "kept", "mode"]) {
        if (side === "tree" && name === "gone") continue;
        writeFileSync(join(top, side, name), "1");
        utimesSync(join(top, side, name), 1, 1);
      }
    }
    const tree = (name: string): string => join(top, "tree", name);
    writeFileSync(tree("grown"), "12");
    writeFileSync(tree("kept"), "2");
    utimesSync(tree("kept"), 1, 1);
    chmodSync(tree("mode"), 0o600);
    symlinkSync("x", tree("made"));
    linkSync(join(top, "parent/grown"), tree("linked"));
    using mine = open(bytesOfText(tree("")), O_RDONLY | O_DIRECTORY);
    using theirs = open(bytesOfText(join(top, "parent")), O_RDONLY | O_DIRECTORY);
    // grown, gone, mode, made, linked; not `kept`, whose content changed.
    assert.deepEqual(await dockerWalk(mine, theirs), { changes: 5, entries: 8 });
    assert.deepEqual(
      await dockerWalk(theirs, theirs),
      { changes: 0, entries: 5 },
      "a directory that is the same one is not entered",
    );
  } finally {
    rmSync(top, { recursive: true });
  }
});

test("markup: what is not made here is escaped", () => {
  assert.equal(
    html`<p title="${'"'}">${"<b>&'"}</p>${[html`<i>${1}</i>`]}`.text,
    '<p title="&#34;">&#60;b&#62;&#38;&#39;</p><i>1</i>',
  );
});

test("a daemon that shows no goroutines, and whose process nobody knows", async () => {
  await using host = new MadeHost();
  await host.answer("/run/docker.sock", { message: "page not found" }, 404);
  const asked = { socket: join(host.prefix, "run/docker.sock"), looks: 1, intervalMs: 0 };
  for (const way of [undefined, "signal"] as const)
    await assert.rejects(watch({ ...asked, way }), {
      code: "UNWATCHABLE",
      message: /no dockerd holds it|only for root/,
    });
  await assert.rejects(watch({ ...asked, way: "endpoint" }), { code: "UNWATCHABLE", message: /status 404/ });
  await assert.rejects(watch({ ...asked, signal: AbortSignal.abort() }), { kind: "canceled" });
});
