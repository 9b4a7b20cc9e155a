/** Builds on real mounts: as root, and again in a user namespace with one id, for which the file runs itself. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { BuildError } from "../../src/build/build-error.ts";
import { isLamellaError } from "../../src/errors/lamella-error.ts";
import { BuildLab } from "../support/build-lab.ts";
import { busyboxMissing } from "../support/busybox-root.ts";
import { tarOf } from "../support/image-archive.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";

const nested = inUserNamespace();
const skip = busyboxMissing() ?? (process.getuid?.() === 0 ? undefined : "needs root, or a user namespace");
const mounts = (): string => readFileSync("/proc/self/mountinfo", "utf8");

describe(`builds${nested ? " in a user namespace" : ""}`, { skip }, async () => {
  if (skip !== undefined) return;
  const lab = await BuildLab.open();
  after(() => lab[Symbol.asyncDispose]());

  test("layers, config and history of a plain file, without a mount left", async () => {
    lab.files({ "app/run.sh": "echo run\n", "app/lib/a": "a\n" });
    const before = mounts();
    const { config, output, result } = await lab.build(
      [
        "FROM base",
        "ENV A=1 B=two",
        "ARG WHO=world",
        "RUN echo hello $WHO > /hello && cat /hello",
        "WORKDIR /srv/app",
        "COPY app .",
        "RUN true",
        "USER bob",
        'CMD ["sh", "run.sh"]',
      ].join("\n"),
      { tags: ["plain"], buildArgs: { WHO: "you" }, labels: { maker: "it's $me" } },
    );
    assert.equal(mounts(), before);
    assert.equal(output, "hello you\n");
    assert.deepEqual(config.config?.Cmd, ["sh", "run.sh"]);
    assert.equal(config.config?.User, "bob");
    assert.deepEqual({ ...config.config?.Labels }, { maker: "it's $me" });
    const history = config.history?.map(
      ({ created_by = "", empty_layer }) => `${empty_layer ? "-" : "L"} ${created_by}`,
    );
    assert.deepEqual(history?.slice(1, 4), [
      "- /bin/sh -c #(nop)  ENV A=1 B=two",
      "- /bin/sh -c #(nop)  ARG WHO=world",
      "L |1 WHO=you /bin/sh -c echo hello $WHO > /hello && cat /hello",
    ]);
    assert.match(history?.[5] ?? "", /^L \/bin\/sh -c #\(nop\) COPY \w+:[0-9a-f]{64} in \. $/);
    assert.equal(history?.[6], "- |1 WHO=you /bin/sh -c true");
    assert.equal(config.rootfs.diff_ids.length, 4);
    const tree = await lab.tree(result);
    assert.ok(tree.has("srv/app/lib/a") && tree.has("hello"));
    assert.ok(!tree.has("proc") && !tree.has("etc/resolv.conf"));
  });

  test("finds all steps in the cache, and gives the same image", async () => {
    const file = "FROM base\nENV X=1\nRUN echo cached > /c\nCOPY app /app\nRUN true\nLABEL l=1\n";
    const first = await lab.build(file);
    const second = await lab.build(file);
    assert.equal(second.result.image.id, first.result.image.id);
    assert.deepEqual(
      second.steps.filter((step) => step.startsWith("done")),
      [],
    );
    // Content decides, not times.
    writeFileSync(join(lab.context, "app/lib/a"), "a\n");
    assert.ok((await lab.build(file)).steps.includes("cached COPY app /app"));
    writeFileSync(join(lab.context, "app/lib/a"), "b\n");
    const changed = await lab.build(file);
    assert.deepEqual(
      changed.steps.filter((step) => /RUN|COPY/.test(step)),
      ["cached RUN echo cached > /c", "done COPY app /app", "done RUN true"],
    );
    assert.ok((await lab.build(file, { noCache: true })).steps.includes("done RUN echo cached > /c"));
  });

  test("a build argument is part of a RUN's key, once declared", async () => {
    const file = "FROM base\nRUN echo before > /b\nARG V\nRUN echo $V > /v\n";
    await lab.build(file, { buildArgs: { V: "1" } });
    const { steps } = await lab.build(file, { buildArgs: { V: "2" } });
    assert.ok(steps.includes("cached RUN echo before > /b") && steps.includes("done RUN echo $V > /v"));
  });

  test("needed stages alone are built, independent ones at once", async () => {
    const file = [
      "FROM base AS one",
      "RUN sleep 0.6; echo 1 > /one",
      "FROM base AS two",
      "RUN sleep 0.6; echo 2 > /two",
      "FROM base AS unneeded",
      "RUN exit 9",
      "FROM scratch",
      "COPY --from=one /one /",
      "COPY --from=two /two /",
    ].join("\n");
    await lab.build("FROM base\nRUN true\n", { noCache: true });
    const start = performance.now();
    const { result } = await lab.build(file, { noCache: true });
    const tree = await lab.tree(result);
    assert.deepEqual([...tree.keys()].filter(Boolean).sort(), ["one", "two"]);
    const at = (kind: string, text: string) =>
      lab.events.findIndex((event) => event.kind === kind && "step" in event && event.step.text.startsWith(text));
    assert.ok(at("step-started", "RUN sleep 0.6; echo 2") < at("step-done", "RUN sleep 0.6; echo 1"));
    assert.ok(performance.now() - start < 60_000);
    assert.ok((await lab.build(file, { target: "one" })).result.image.id !== result.image.id);
  });

  test("ONBUILD runs in the child", async () => {
    await lab.build("FROM base\nONBUILD ARG Z=9\nONBUILD RUN echo child $Z > /onbuild\n", { tags: ["parent"] });
    const { config, result } = await lab.build("FROM parent\nRUN cat /onbuild\n");
    assert.equal(lab.output, "child 9\n");
    assert.equal(config.config?.OnBuild, undefined);
    assert.ok((await lab.tree(result)).has("onbuild"));
  });

  test("here-documents: scripts, interpreters, files", async () => {
    const { output, result } = await lab.build(
      [
        "FROM base",
        "ARG NAME=file",
        "RUN <<EOF",
        "echo one",
        "echo two",
        "EOF",
        "RUN <<EOF",
        "#!/bin/cat",
        "as it is",
        "EOF",
        "RUN cat <<A && cat <<B",
        "first",
        "A",
        "second",
        "B",
        'COPY <<"conf" <<expanded /etc/app/',
        "$NAME",
        "conf",
        "$NAME",
        "expanded",
        "RUN cat /etc/app/conf /etc/app/expanded",
      ].join("\n"),
    );
    assert.equal(output, "one\ntwo\n#!/bin/cat\nas it is\nfirst\nsecond\n$NAME\nfile\n");
    assert.ok(!(await lab.tree(result)).has("run/lamella"));
  });

  test("--mount: bind, cache, tmpfs, secret, none of which stays in the layer", async () => {
    lab.files({ "bound.txt": "bound\n" });
    const file = [
      "FROM base AS other",
      "RUN echo from > /other",
      "FROM base",
      "RUN --mount=type=bind,source=bound.txt,target=/b.txt cat /b.txt",
      "RUN --mount=from=other,source=/other,target=/o cat /o",
      "RUN --mount=type=cache,id=../../etc,target=/cache echo x >> /cache/n; wc -l < /cache/n",
      "RUN --mount=type=tmpfs,target=/t touch /t/x",
      "RUN --mount=type=secret,id=s cat /run/secrets/s",
    ].join("\n");
    const secrets = { s: Buffer.from("hidden\n") };
    const { output, result } = await lab.build(file, { secrets });
    assert.equal(output, "bound\nfrom\n1\nhidden\n");
    await lab.build(file, { secrets, noCache: true });
    assert.match(lab.output, /\n2\n/);
    const tree = await lab.tree(result);
    for (const path of ["b.txt", "o", "cache", "t", "run"]) assert.ok(!tree.has(path), path);
    // H57, CVE-2024-9675: the id is no path.
    assert.match(readdirSync(join(lab.store.root, "build-caches")).join(" "), /^[0-9a-f]{64}$/);
  });

  test("ADD unpacks archives, with what they say of owners and times", async () => {
    const tar = tarOf([
      { name: "d/", type: "directory", mode: 0o750 },
      { name: "d/f", content: "packed" },
      { name: "d/l", type: "symlink", linkName: "f" },
      { name: "../up", content: "contained" },
    ] as Parameters<typeof tarOf>[0]);
    writeFileSync(join(lab.context, "a.tar"), tar);
    writeFileSync(join(lab.context, "b.tar.gz"), gzipSync(tar));
    const { result } = await lab.build("FROM scratch\nADD a.tar /one/\nADD b.tar.gz /two/\nCOPY a.tar /three/\n");
    const tree = await lab.tree(result);
    for (const path of ["one/d/f", "two/d/l", "one/up", "three/a.tar"]) assert.ok(tree.has(path), path);
  });

  test("a failing step names its line, and what was done before it is kept as cache", async () => {
    const file = "FROM base\n\nRUN echo kept > /k\n# comment\nRUN echo oops >&2; \\\n  exit 3\n";
    await assert.rejects(lab.build(file), (error) => {
      assert.ok(error instanceof BuildError);
      assert.match(error.message, /^Dockerfile:5: RUN .*: exit status 3$/);
      assert.equal(error.exitCode, 3);
      return true;
    });
    assert.equal(lab.output, "oops\n");
    await assert.rejects(lab.build(file), { exitCode: 3 });
    assert.ok(lab.steps.includes("cached RUN echo kept > /k"));
    await assert.rejects(lab.build('FROM base\nRUN ["nope"]\n'), { exitCode: 127, line: 2 });
    await assert.rejects(
      lab.build("FROM base\nCOPY missing /\n"),
      /Dockerfile:2: COPY missing \/: "missing" not found/,
    );
  });

  test("unknown stages and images come with the nearest names", async () => {
    await assert.rejects(
      lab.build("FROM bsae\n"),
      (error) => isLamellaError(error, "not_found") && /base/.test(error.hint ?? ""),
    );
    await assert.rejects(
      lab.build("FROM base AS builder\n", { target: "bulider" }),
      (error) => isLamellaError(error, "not_found") && /builder/.test(error.hint ?? ""),
    );
    await assert.rejects(
      lab.build("FROM base AS builder\nFROM base\nCOPY --from=bulider /a /\n"),
      (error) => isLamellaError(error, "not_found") && /builder/.test(error.hint ?? ""),
    );
  });

  test("same inputs and SOURCE_DATE_EPOCH give the same image, byte for byte", async () => {
    const file = "FROM base\nRUN mkdir /d && echo x > /d/x\nCOPY app /app\nWORKDIR /w/x\nENV A=1\n";
    const ids = new Set<string>();
    for (let i = 0; i < 2; i++) {
      const { result, config } = await lab.build(file, { sourceDateEpoch: 1_000_000_000, noCache: true });
      ids.add(result.image.id);
      assert.equal(Date.parse(config.created ?? ""), 1_000_000_000_000);
    }
    ids.add((await lab.build(file, { sourceDateEpoch: 1_000_000_000 })).result.image.id);
    assert.equal(ids.size, 1);
  });

  test("aborting leaves no mount, no layer and no process", async () => {
    const before = mounts();
    const layers = readdirSync(join(lab.store.driver.home)).length;
    const abort = new AbortController();
    const running = lab.build("FROM base\nRUN echo a > /a\nRUN sleep 600\n", {
      noCache: true,
      signal: abort.signal,
      onEvent: (event) => {
        if (event.kind === "step-started" && event.step.text === "RUN sleep 600") setTimeout(() => abort.abort(), 200);
      },
    });
    await assert.rejects(running, (error) => isLamellaError(error, "canceled"));
    assert.equal(mounts(), before);
    assert.equal(readdirSync(lab.store.driver.home).length, layers);
  });
});

describe("on vfs", { skip: skip ?? (nested ? "as root" : undefined) }, () => {
  test("steps without a change give no layer, and mount points leave no trace", async () => {
    await using lab = await BuildLab.open({ driver: "vfs", engine: "builtin" });
    const { config, result } = await lab.build("FROM base\nRUN true\nRUN echo v > /v\nENV A=1\nRUN cat /v\n");
    assert.equal(config.rootfs.diff_ids.length, 2);
    const tree = await lab.tree(result);
    assert.ok(tree.has("v") && !tree.has("proc") && !tree.has("etc/hosts"));
  });
});

test("the same in a user namespace", { skip: skip ?? (nested ? "this is it" : undefined) }, (t) => {
  if (spawnSync("unshare", ["-U", "-r", "-m", "true"]).status !== 0) {
    t.skip("user namespaces are not allowed here");
    return;
  }
  const args = ["-U", "-r", "-m", process.execPath, ...process.execArgv.filter((arg) => !arg.startsWith("--test"))];
  const env = { ...process.env, NODE_TEST_CONTEXT: "" };
  const again = spawnSync("unshare", [...args, import.meta.filename], { encoding: "utf8", timeout: 180_000, env });
  assert.equal(again.status, 0, again.stdout + again.stderr);
});
