/** `doctor --watch` and `--measure` for real: on a dockerd that compares trees, and on one that does not. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makeTree } from "../../src/doctor/measure/make-tree.ts";
import type { MeasureReport } from "../../src/doctor/measure/measure.ts";
import { readWatched } from "../../src/doctor/watch/read-files.ts";
import { type Watched, type WatchOptions, type WatchReport, watch } from "../../src/doctor/watch/watch.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { parseGoroutineDump } from "../../src/profile/goroutine-dump.ts";
import { CliLab, program } from "../e2e/cli-harness.ts";
import { Docker } from "../support/dockerd.ts";
import { tarOf } from "../support/image-archive.ts";
import { run } from "../support/loop-devices.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { parametersFixed, withParameter } from "../support/overlay-parameters.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-evidence-"));
const isolated = privateMounts();
/** In memory: what other tests write to the disk meanwhile must not be what a daemon here waits for. */
if (isolated === true) run("mount", "-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs", directory);
after(() => {
  if (isolated === true) run("umount", "-l", directory);
  rmSync(directory, { recursive: true, force: true });
});

const dataOf = (redirects: "Y" | "N"): string => join(directory, `docker-${redirects}`);

/** A daemon that diffs as `redirects` makes it, with the image `base` of some thousand files. Undefined after a skip. */
async function start(t: TestContext, redirects: "Y" | "N"): Promise<Docker | undefined> {
  const fixed = isolated === true ? parametersFixed() : isolated;
  if (fixed !== undefined) {
    t.skip(fixed);
    return undefined;
  }
  const dataRoot = dataOf(redirects);
  using parameter = withParameter("redirect_dir", redirects);
  const docker = await Docker.start({ dataRoot });
  parameter[Symbol.dispose]();
  if (typeof docker === "string") {
    t.skip(docker);
    return undefined;
  }
  assert.equal(docker.nativeDiff(), redirects === "N");
  const tree = join(directory, `tree-${redirects}`);
  mkdirSync(tree);
  await makeTree(bytesOfText(tree), { entries: 12_000 });
  const tar = join(directory, "tree.tar");
  run("tar", "-C", tree, "-cf", tar, ".");
  docker.run(["import", tar, "base"]);
  docker.run(["import", "-", "small"], { input: tarOf([{ name: "file" }]) });
  return docker;
}

const mostTries = 4;

type BuildWatch = Partial<WatchOptions> & { readonly build?: (context: string) => Promise<void> };

/**
 * Builds so many steps on the image while the daemon is watched; a few times, until enough samples are in the naive diff,
 * since on a machine with much else to do the rest of a step takes long, too.
 */
async function watchBuild(docker: Docker, steps: number, options: BuildWatch, enough = 0): Promise<Watched> {
  for (let tries = 1; ; tries++) {
    const watched = await watchOneBuild(docker, steps, options);
    if (shareOf(watched.report, "naive-diff") >= enough || tries === mostTries) return watched;
  }
}

async function watchOneBuild(
  docker: Docker,
  steps: number,
  { build = (context) => docker.build(context, ["--no-cache"]), ...options }: BuildWatch,
): Promise<Watched> {
  const context = mkdtempSync(join(directory, "context-"));
  const names = Array.from({ length: steps }, (_, i) => `file${i}`);
  for (const name of names) writeFileSync(join(context, name), name);
  writeFileSync(join(context, "Dockerfile"), `FROM base\n${names.map((name) => `COPY ${name} /new/\n`).join("")}`);
  const building = build(context);
  const watching = watch({ socket: docker.socket, looks: 16, intervalMs: 150, ...options });
  const [watched] = await Promise.all([watching, building]);
  return watched;
}

function shareOf({ activities }: WatchReport, name: string): number {
  return activities.find(({ activity }) => activity === name)?.share ?? 0;
}

/** GET to a file. */
async function fetchTo(docker: Docker, path: string, file: string): Promise<void> {
  const parts: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    request({ socketPath: docker.socket, path }, (answer) => {
      answer.on("data", (part: Buffer) => parts.push(part)).on("end", resolve);
    })
      .on("error", reject)
      .end();
  });
  writeFileSync(file, Buffer.concat(parts));
}

test("a dockerd that compares trees: watched, read from its own profiles, and measured", async (t) => {
  const docker = await start(t, "Y");
  if (docker === undefined) return;
  const execRoot = join(docker.directory, "exec");
  using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
  try {
    await t.test("most samples are in the naive diff, by the endpoint", async () => {
      const { report, profile } = await watchBuild(docker, 5, { way: "endpoint" }, 0.6);
      assert.equal(report.source, "the daemon's pprof endpoint");
      assert.ok(shareOf(report, "naive-diff") > 0.5, JSON.stringify(report));
      assert.ok((report.looks?.naive ?? 0) * 2 > (report.looks?.busy ?? 0));
      assert.ok(profile.samples.some(({ frames }) => frames.some((one) => one.endsWith(".(*NaiveDiffDriver).Diff"))));
      assert.match(report.log?.lines[0]?.line ?? "", /Not using native diff for overlay2/);
    });

    await t.test("a build by BuildKit: what it diffs at its end, all layers beside each other, is seen", async (t) => {
      const build = async (context: string): Promise<void> => {
        if (!(await docker.buildByBuildKit(context, ["--no-cache", "-t", "built"]))) t.skip("no client has BuildKit");
      };
      const { report, profile } = await watchBuild(docker, 5, { looks: 25, intervalMs: 60, build }, 0.6);
      if (!docker.try(["image", "inspect", "built"]).ok) return;
      docker.run(["rmi", "built"]);
      assert.ok(shareOf(report, "naive-diff") > 0.5, JSON.stringify(report));
      assert.ok(profile.samples.some(({ frames }) => frames.some((one) => one.includes("(*snapshotter).EnsureLayer"))));
    });

    await t.test("by the signal, too; dumps of others stay, ours go", async () => {
      const other = join(execRoot, "goroutine-stacks-2001-01-01T000000Z.log");
      writeFileSync(other, "somebody's");
      // Few looks, as one takes more than a second: all of them may come between two diffs.
      const { report } = await watchBuild(docker, 5, { way: "signal", looks: 3 }, 0.1);
      assert.equal(report.source, "SIGUSR1");
      assert.ok(Number(report.pid) > 0);
      assert.ok(shareOf(report, "naive-diff") > 0, JSON.stringify(report));
      assert.deepEqual(
        readdirSync(execRoot).filter((name) => name.endsWith(".log")),
        ["goroutine-stacks-2001-01-01T000000Z.log"],
      );
    });

    await t.test("its dumps and its CPU profile are read from files", async () => {
      const cpu = join(directory, "cpu.pprof");
      const dumps = ["one", "two"].map((name) => join(directory, `${name}.log`));
      const profiling = fetchTo(docker, "/debug/pprof/profile?seconds=2", cpu);
      await watchBuild(docker, 2, { looks: 1 });
      await profiling;
      for (const path of dumps) await fetchTo(docker, "/debug/pprof/goroutine?debug=2", path);
      const text = readFileSync(dumps[0] ?? "", "utf8");
      const goroutines = parseGoroutineDump(text);
      assert.equal(goroutines.length, text.match(/^goroutine /gm)?.length);
      for (const { frames } of goroutines) for (const name of frames) assert.match(name, /^[^\s]+\.[^\s]+$/);
      assert.deepEqual(readWatched(dumps).report.looks, { all: 2, busy: 0, naive: 0 });
      const { report } = readWatched([cpu]);
      assert.equal(report.unit, "nanoseconds");
      assert.ok(shareOf(report, "naive-diff") > 0, JSON.stringify(report));
      assert.throws(() => readWatched([cpu, dumps[0] ?? ""]), { code: "BAD_PROFILE" });
      assert.throws(() => readWatched([import.meta.filename]), { code: "BAD_PROFILE" });
    });

    await t.test("the command: an idle daemon, files for a browser and for speedscope", () => {
      const folded = join(lab.directory, "stacks.folded");
      writeFileSync(folded, "main;archive.ChangesDirs;<b>lstat</b> 3\nmain;mount.Mount 1\n");
      const names = ["flames.html", "scope.json", "again.folded"].map((name) => join(lab.directory, name));
      const [html = "", speedscope = "", again = ""] = names;
      const files = ["--html", html, "--speedscope", speedscope, "--folded", again];
      const { status, stdout } = lab.lamella("doctor", "--from", folded, ...files);
      assert.equal(status, 0);
      assert.match(stdout, /^Docker compared whole trees for 75 % of what is in\s/m);
      assert.match(stdout, /comparing whole trees \(naive diff\) +█+/);
      const page = readFileSync(html, "utf8");
      assert.match(page, /<svg class="upright"[\s\S]*<svg class="inverted"/);
      assert.doesNotMatch(page, /<b>lstat|https?:\/\/|@import|url\(/);
      assert.equal(JSON.parse(readFileSync(speedscope, "utf8")).profiles[0].endValue, 4);
      assert.equal(readFileSync(again, "utf8").split("\n").length, 3);
      assert.match(lab.ok("doctor", "--watch", "--samples", "1"), /^Nothing was going on with layers/);
      assert.equal(lab.json<WatchReport>("doctor", "--watch", "--samples", "2", "--interval", "0").looks?.all, 2);
    });

    await t.test("measured with a made tree and with an image; nothing is left behind", () => {
      const before = imagesOf(docker);
      const html = join(lab.directory, "cost.html");
      const made = lab.json<MeasureReport>("doctor", "--measure", "--entries", "500", "--html", html);
      assert.deepEqual([made.tree.kind, made.engine?.diff, made.build?.steps], ["made", "naive", 5]);
      assert.equal(made.diff.sides, "overlay mounts");
      assert.ok(made.tree.entries >= 505);
      assert.equal(made.ratio, made.naiveMs / made.nativeMs);
      assert.deepEqual(
        made.images.map(({ name, layers }) => [name, layers]),
        [
          ["base:latest", 1],
          ["small:latest", 1],
        ],
      );
      assert.ok((made.images[0]?.entries ?? 0) > 12_000);
      assert.match(readFileSync(html, "utf8"), /base:latest \([0-9]+ files\)/);
      const { stdout } = lab.lamella("doctor", "--measure", "small");
      assert.match(
        stdout.replace(/\s+/g, " "),
        /natively and .* naively: [0-9.]+ times as long\. Docker here does it naively/,
      );
      assert.match(stdout, /^ {2}naive diff +[▏▎▍▌▋▊▉█]/m);
      assert.match(stdout, /^ {2}a step of docker build \(naive now\) /m);
      assert.deepEqual(imagesOf(docker), before);
      assert.deepEqual(leftIn(dataOf("Y")), []);
    });

    await t.test("without the build, the daemon is given nothing to do", () => {
      const since = new Date().toISOString();
      const { build, images, nativeMs, naiveMs, notes } = lab.json<MeasureReport>(
        ...["doctor", "--measure", "--no-build", "--entries", "500"],
      );
      assert.equal(build, undefined);
      assert.ok(nativeMs > 0 && naiveMs > 0);
      assert.deepEqual([images.length, notes], [2, []]);
      assert.equal(docker.text(["events", "--since", since, "--until", new Date().toISOString()]), "");
    });

    await t.test("interrupted, it takes everything along: at the start, and while a build goes on", async () => {
      const before = imagesOf(docker);
      const data = dataOf("Y");
      const [file = "", ...args] = program;
      const env = { ...process.env, DOCKER_HOST: `unix://${docker.socket}`, LAMELLA_ROOT: lab.root };
      const isStarted = (): boolean => leftIn(data).length > 0;
      // The label, and one step.
      const isBuilding = (): boolean => imagesOf(docker).length >= before.length + 3;
      for (const isTime of [isStarted, isBuilding]) {
        const child = spawn(file, [...args, "doctor", "--measure", "--entries", "500"], { env, stdio: "ignore" });
        const ended = new Promise((resolve) => child.once("exit", resolve));
        while (!isTime() && child.exitCode === null) await sleep(20);
        child.kill("SIGINT");
        assert.equal(await ended, 130);
        assert.deepEqual(leftIn(data), []);
        assert.deepEqual(imagesOf(docker), before);
      }
    });
  } finally {
    await docker.stop();
  }
});

test("a dockerd that diffs natively: no sample is in the naive diff", async (t) => {
  const docker = await start(t, "N");
  if (docker === undefined) return;
  try {
    const { report } = await watchBuild(docker, 12, { looks: 100, intervalMs: 15 });
    assert.ok((report.looks?.busy ?? 0) > 0, JSON.stringify(report));
    assert.equal(report.looks?.naive, 0);
    assert.equal(shareOf(report, "naive-diff"), 0);
    assert.deepEqual(report.log?.lines, []);
    using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
    const measured = lab.json<MeasureReport>("doctor", "--measure", "small");
    assert.deepEqual([measured.engine?.diff, measured.build?.steps, measured.notes], ["native", 5, []]);
  } finally {
    await docker.stop();
  }
});

test("a driver whose layers are no plain directories: the image is exported to be measured", async (t) => {
  const docker = await Docker.start({ driver: "vfs", dataRoot: join(directory, "docker-vfs") });
  if (typeof docker === "string") return t.skip(docker);
  try {
    docker.run(["import", "-", "small"], { input: tarOf([{ name: "below/file", content: "x" }]) });
    using lab = new CliLab({ env: { DOCKER_HOST: `unix://${docker.socket}` } });
    const { tree, engine, notes, images, build } = lab.json<MeasureReport>("doctor", "--measure", "small");
    // below, file, and what every container's root has (dev, etc, proc, sys and files in them), and the step's five.
    assert.ok(tree.entries >= 7, String(tree.entries));
    assert.deepEqual([engine?.diff, build?.steps, images], ["naive", 5, []]);
    assert.match(notes.join("\n"), /^the image was exported[\s\S]*your own images are not reckoned/);
    assert.equal(docker.text(["ps", "-aq"]), "");
    assert.deepEqual(imagesOf(docker).length, 1);
    assert.deepEqual(leftIn(join(directory, "docker-vfs")), []);
  } finally {
    await docker.stop();
  }
});

test("without root: measured where one may write, and what could not be done is said", (t) => {
  if (process.getuid?.() !== 0) return t.skip("becoming another user needs root");
  using other = new CliLab({ uid: 65_534 });
  const { diff, notes } = other.json<MeasureReport>("doctor", "--measure", "--entries", "200", other.directory);
  assert.equal(diff.sides, "plain copies");
  assert.match(notes.join("\n"), /mounting needs root[\s\S]*no dockerd answers/);
  const elsewhere = other.json<MeasureReport>("doctor", "--measure", "--entries", "200", "/root");
  assert.match(elsewhere.notes[0] ?? "", /^measured in .*: in \/root only root may write$/);
  assert.deepEqual(leftIn(other.directory), []);
});

test("a directory is measured as it is, and an image of one's own store", (t) => {
  using lab = new CliLab();
  const unsupported = lab.unsupported();
  if (unsupported !== undefined) return t.skip(unsupported);
  lab.importBase(50);
  const image = lab.json<MeasureReport>("doctor", "--measure", "base", lab.root);
  assert.deepEqual([image.tree.kind, image.tree.name], ["image", "base"]);
  const tree = join(lab.directory, "tree");
  mkdirSync(join(tree, "below"), { recursive: true });
  const own = lab.json<MeasureReport>("doctor", "--measure", tree, lab.directory);
  assert.deepEqual([own.tree.kind, own.tree.entries], ["directory", 6]);
  assert.deepEqual(readdirSync(tree), ["below"]);
  assert.deepEqual([...leftIn(lab.root), ...leftIn(lab.directory)], []);
  assert.match(lab.lamella("doctor", "--measure", "nobodys", lab.root).stderr, /nobodys: no such image/);
});

test("options that do not go together", () => {
  using lab = new CliLab();
  for (const words of [
    ["--watch", "--measure"],
    ["--html", "x"],
    ["--folded", "x"],
    ["--entries", "500"],
    ["--no-build"],
    ["--fix", "naive-diff-driver", "--measure", "--no-build"],
    ["--watch", "--samples", "0"],
    ["--watch", "--interval", "x"],
  ])
    assert.equal(lab.lamella("doctor", ...words).status, 2, words.join(" "));
});

function imagesOf(docker: Docker): string[] {
  return docker.text(["images", "-aq"]).split("\n").sort();
}

function leftIn(path: string): string[] {
  return readdirSync(path).filter((name) => name.startsWith(".lamella-measure-"));
}
