import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CliLab } from "./cli-harness.ts";

const lab = new CliLab();
const unsupported = lab.unsupported();
after(() => lab[Symbol.dispose]());

interface Report {
  readonly id: string;
  readonly tags: readonly string[];
  readonly steps: readonly {
    readonly text: string;
    readonly outcome: string;
    readonly layer?: { readonly added: number; readonly deleted: number; readonly visited: number };
  }[];
}

/** Writes a context with this Dockerfile and answers its path. */
function context(name: string, dockerfile: string, files: Readonly<Record<string, string>> = {}): string {
  const directory = join(lab.directory, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "Dockerfile"), dockerfile);
  for (const [file, content] of Object.entries(files)) writeFileSync(join(directory, file), content);
  return directory;
}

describe("build", { skip: unsupported }, () => {
  before(() => lab.importBase());

  test("progress as plain lines, the ID alone with -q, a report with --json", () => {
    const app = context("app", "FROM base\nENV A=1\nCOPY note.txt /note.txt\nRUN echo made > /made\nCMD cat /made\n", {
      "note.txt": "note\n",
    });
    const { status, stdout, stderr } = lab.lamella("build", "-t", "app", "-t", "app:2", app);
    assert.equal(status, 0, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /^\[4\/5\] RUN echo made > \/made$/m);
    assert.match(stderr, /^\[4\/5\] {3}layer: 1 added, [\s\S]*, diff \S+$/m);
    assert.match(stderr, /^built sha256:[0-9a-f]{12} as app, app:2 in \S+$/m);
    assert.equal(lab.ok("run", "--rm", "app:2"), "made");

    const cached = lab.lamella("build", "-q", app);
    assert.equal(cached.stderr, "");
    assert.match(cached.stdout, /^sha256:[0-9a-f]{64}\n$/);

    const report = lab.json<Report>("build", "--no-cache", "-t", "app:3", app);
    assert.deepEqual(
      report.steps.map(({ outcome }) => outcome),
      ["metadata", "metadata", "done", "done", "metadata"],
    );
    assert.equal(report.steps[3]?.layer?.added, 1);
    const again = lab.json<Report>("build", app);
    assert.deepEqual(
      again.steps.map(({ outcome }) => outcome).filter((outcome) => outcome === "done"),
      [],
    );
    const steps = lab.json<{ createdBy: string }[]>("history", "app:3");
    assert.match(steps[1]?.createdBy ?? "", /\/bin\/sh -c echo made > \/made$/);
  });

  test("options: file, target, build arguments, labels, iidfile", () => {
    const app = context("options", "not a Dockerfile");
    writeFileSync(
      join(lab.directory, "Other"),
      "FROM base AS first\nARG WORD=default\nARG FROM_ENV\nRUN echo $WORD $FROM_ENV > /word\nFROM first\nRUN exit 1\n",
    );
    const { status, stderr } = lab.script(
      "FROM_ENV=caller lamella build -f Other --target first --build-arg WORD=given --build-arg FROM_ENV " +
        "--label l=v --iidfile id -t options options",
    );
    assert.equal(status, 0, stderr);
    assert.equal(lab.ok("cat", "options", "/word"), "given caller");
    assert.equal(
      readFileSync(join(lab.directory, "id"), "utf8"),
      lab.json<{ id: string }[]>("images", "options")[0]?.id,
    );
    const [image] = lab.json<{ Config: { Labels: Record<string, string> } }[]>("inspect", "options");
    assert.deepEqual(image?.Config.Labels, { l: "v" });
    assert.ok(existsSync(app));
  });

  test("a step that fails: its output, its line, status 1", () => {
    const app = context("fails", "FROM base\nRUN echo before; echo wrong >&2; exit 3\n");
    const { status, stderr } = lab.lamella("build", app);
    assert.equal(status, 1);
    assert.match(stderr, /^\[2\/2\] {3}wrong$/m);
    assert.match(stderr, /^lamella: .*Dockerfile:2: RUN echo before.*3/m);
    assert.equal(lab.ok("ps", "-q"), "");
    const typo = lab.lamella("build", context("typo", "FROM base\nRUNN true\n"));
    assert.equal(typo.status, 1);
    assert.match(typo.stderr, /Dockerfile:2: /);
    const unknown = lab.lamella("build", context("unknown", "FROM bsae\n"));
    assert.match(unknown.stderr, /no image "bsae"[\s\S]*hint: did you mean base:latest\?/);
  });

  test("--output writes archives and trees", () => {
    const app = context("output", "FROM scratch\nCOPY f /d/f\n", { f: "content\n" });
    const outputs = ["type=oci,dest=o.tar", "type=docker,dest=d.tar", "type=tar,dest=t.tar", "type=local,dest=l"];
    lab.ok("build", "-q", "-t", "output", ...outputs.flatMap((output) => ["--output", output]), app);
    assert.equal(readFileSync(join(lab.directory, "l/d/f"), "utf8"), "content\n");
    const { stdout } = lab.script(
      "tar -xOf t.tar d/f; tar -tf o.tar | grep -c index.json; tar -tf d.tar | grep -c manifest.json",
    );
    assert.equal(stdout, "content\n1\n1\n");
    assert.equal(lab.lamella("build", "--output", "type=iso,dest=x", app).status, 2);
  });

  test("SOURCE_DATE_EPOCH: the same image twice", () => {
    const app = context("epoch", "FROM base\nRUN mkdir /made && echo x > /made/x\n");
    const build = "SOURCE_DATE_EPOCH=1700000000 lamella build -q --no-cache";
    const { stdout } = lab.script(`${build} ${app}; sleep 1.1; ${build} ${app}`);
    const [first, second] = stdout.trimEnd().split("\n");
    assert.match(first ?? "", /^sha256:/);
    assert.equal(first, second);
  });

  test("a build that is interrupted leaves nothing mounted and ends with 130", () => {
    const app = context("slow", "FROM base\nRUN sleep 60\n");
    const { stdout } = lab.script(`
      exec_lamella build ${app} 2> progress & pid=$!
      for i in $(seq 200); do grep -q 'RUN sleep' progress && break; sleep 0.05; done
      sleep 0.5; kill -INT $pid; status=0; wait $pid || status=$?; echo $status
      grep -c ${lab.root} /proc/self/mountinfo || true`);
    assert.equal(stdout, "130\n0\n");
    assert.match(lab.ok("check"), /all is well$/);
  });
});
