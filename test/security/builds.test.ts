/** Hostile Dockerfiles, contexts and base images (H52 to H59; H58 and H60 also in test/mount/sandbox.test.ts). */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readBuildFiles } from "../../src/build/build-files.ts";
import { parseRunMount } from "../../src/build/run-mounts.ts";
import { BuildLab } from "../support/build-lab.ts";
import { busyboxMissing } from "../support/busybox-root.ts";

const skip = busyboxMissing() ?? (process.getuid?.() === 0 ? undefined : "needs root");

describe("hostile builds", { skip }, async () => {
  if (skip !== undefined) return;
  const lab = await BuildLab.open();
  after(() => lab[Symbol.asyncDispose]());
  const victim = join(lab.directory, "victim");
  before(() => {
    mkdirSync(victim);
    writeFileSync(join(victim, "secret"), "host's own\n");
  });
  after(() => assert.deepEqual(existsSync(victim) ? readdirSync(victim) : ["secret"], ["secret"]));

  const wipe = (): void => {
    rmSync(lab.context, { recursive: true });
    mkdirSync(lab.context);
  };

  test("H52, CVE-2024-9676: passwd and group that never end", async () => {
    for (const [name, make] of Object.entries({
      "a link to /dev/zero": "ln -sf /dev/zero /etc/passwd",
      "a link to a device in the image": "mknod /etc/zero c 1 5; ln -sf zero /etc/passwd",
      "a fifo": "rm /etc/passwd; busybox mkfifo /etc/passwd",
      "a sparse gigabyte": "rm /etc/passwd; busybox truncate -s 1G /etc/passwd",
      "a loop of links": "ln -sf passwd /etc/passwd",
    })) {
      const make2 = make.replaceAll("ln -", "busybox ln -").replaceAll("mknod", "busybox mknod");
      const file = `FROM base\nRUN ${make2}\nUSER bob\nRUN id\n`;
      await assert.rejects(lab.build(file), /Dockerfile:2|Dockerfile:4|passwd|bob/, name);
    }
  });

  test("H53, CVE-2024-21626: WORKDIR through links, and through descriptors", async () => {
    const { result, output } = await lab.build(
      [
        "FROM base",
        `RUN busybox ln -s ${victim} /out && busybox ln -s / /root-link && busybox ln -s ../../../.. /up`,
        "WORKDIR /out/made",
        "WORKDIR /up/made-up",
        "WORKDIR /root-link/by-link",
        "RUN pwd",
      ].join("\n"),
    );
    const tree = await lab.tree(result);
    assert.ok(tree.has(`${victim.slice(1)}/made`) && tree.has("made-up") && tree.has("by-link"));
    assert.deepEqual(readdirSync(victim), ["secret"]);
    assert.match(output, /\/by-link$/m);
    for (const fd of [3, 8, 20]) {
      const attempt = lab.build(
        `FROM base\nWORKDIR /proc/self/fd/${fd}\nRUN ls ../../../../etc/debian_version ../..\n`,
      );
      await assert.rejects(attempt, /Dockerfile:3/);
      assert.doesNotMatch(lab.output, /lost\+found|\bboot\b/);
    }
  });

  test("H54: volumes that climb are only text", async () => {
    const { config } = await lab.build("FROM base\nVOLUME /../../ ../x\nRUN true\n");
    assert.deepEqual(config.config?.Volumes, ["../x", "/../../"]);
  });

  test("H55: a Dockerfile or ignore file that is a fifo, or a link out of the context", () => {
    const read = () => readBuildFiles({ context: lab.context });
    wipe();
    symlinkSync(join(victim, "secret"), join(lab.context, "Dockerfile"));
    assert.throws(read, { code: "LEAVES_CONTEXT" });
    wipe();
    execFileSync("mkfifo", [join(lab.context, "Dockerfile")]);
    assert.throws(read, { code: "UNUSABLE_FILE" });
    wipe();
    writeFileSync(join(lab.context, "Dockerfile"), "FROM scratch\n");
    symlinkSync("/dev/zero", join(lab.context, ".dockerignore"));
    assert.throws(read, { code: "LEAVES_CONTEXT" });
    rmSync(join(lab.context, ".dockerignore"));
    execFileSync("mkfifo", [join(lab.context, ".dockerignore")]);
    assert.throws(read, { code: "UNUSABLE_FILE" });
    wipe();
    writeFileSync(join(lab.context, "real"), "FROM scratch\n");
    symlinkSync("real", join(lab.context, "Dockerfile"));
    assert.equal(read().dockerfile, "FROM scratch\n");
  });

  test("H56: sources never leave the context", async () => {
    wipe();
    symlinkSync(victim, join(lab.context, "dir"));
    symlinkSync(join(victim, "secret"), join(lab.context, "file"));
    symlinkSync("../victim/secret", join(lab.context, "relative"));
    symlinkSync("/proc/self/root", join(lab.context, "magic"));
    for (const source of [
      "dir/secret",
      "file",
      "relative",
      "../victim/secret",
      "/../victim/secret",
      "magic/etc",
      "dir/*",
    ]) {
      await assert.rejects(lab.build(`FROM scratch\nCOPY ${source} /x\n`), { code: "SOURCE_NOT_FOUND" }, source);
    }
    // Below a copied directory links are copied as links.
    const { result } = await lab.build("FROM scratch\nCOPY . /ctx/\n");
    const tree = await lab.tree(result);
    assert.equal(tree.get("ctx/file")?.target, join(victim, "secret"));
  });

  test("H56: destinations never leave the image", async () => {
    wipe();
    lab.files({ f: "new\n", "d/g": "new\n" });
    const { result } = await lab.build(
      [
        "FROM base",
        `RUN busybox ln -s ${victim} /out && busybox ln -s ${victim}/secret /file`,
        "COPY f /out/secret",
        "COPY f /file",
        "COPY d /out/",
        "COPY f ../../../../climbed",
        "ADD f /out/../added",
      ].join("\n"),
    );
    const tree = await lab.tree(result);
    for (const path of ["secret", "g"]) assert.ok(tree.has(`${victim.slice(1)}/${path}`), path);
    assert.ok(tree.has("climbed"));
    assert.equal(execFileSync("cat", [join(victim, "secret")], { encoding: "utf8" }), "host's own\n");
  });

  test("H56: COPY --from sees a finished stage, whatever links it swapped while it ran", async () => {
    const file = [
      "FROM base AS racing",
      `RUN mkdir /d && echo inside > /d/secret && busybox ln -s ${victim} /l`,
      "RUN i=0; while [ $i -lt 300 ]; do mv /d /e; mv /l /d; mv /d /l; mv /e /d; i=$((i+1)); done",
      "FROM scratch",
      "COPY --from=racing /d/secret /got",
    ].join("\n");
    const { result } = await lab.build(file);
    const tree = await lab.tree(result);
    assert.ok(tree.has("got"));
    const host = await lab.build("FROM base\nRUN sha256sum < /dev/null >/dev/null; echo inside > /want\n");
    assert.equal(tree.get("got")?.content, (await lab.tree(host.result)).get("want")?.content);
  });

  test("H57, CVE-2024-9675: the id of a cache is no path", async () => {
    await lab.build("FROM base\nRUN --mount=type=cache,id=../../../victim,target=/c echo x > /c/planted\n");
    assert.deepEqual(readdirSync(victim), ["secret"]);
    for (const name of readdirSync(join(lab.store.root, "build-caches"))) assert.match(name, /^[0-9a-f]{64}(\.lock)?$/);
  });

  test("H58, CVE-2024-9407: mount targets and sources that are links to the host", async () => {
    wipe();
    symlinkSync(victim, join(lab.context, "src"));
    const link = `FROM base\nRUN busybox ln -s ${victim} /t\n`;
    await assert.rejects(
      lab.build(`${link}RUN --mount=type=bind,source=src,target=/m ls /m\n`),
      /not found|does not exist/,
    );
    const { output } = await lab.build(`${link}RUN --mount=type=tmpfs,target=/t touch /t/in-memory && ls /t\n`);
    assert.equal(output, "in-memory\n");
    assert.deepEqual(readdirSync(victim), ["secret"]);
    assert.throws(() => parseRunMount("type=ssh", "/"), { code: "MOUNT_TYPE" });
    assert.throws(() => parseRunMount("type=bind,target=/x,propagation=shared", "/"), { code: "BAD_MOUNT" });
  });

  test("H59: `# syntax=` is neither fetched nor run", async () => {
    const { output } = await lab.build("# syntax=docker.io/evil/frontend:1\nFROM base\nRUN echo ours\n", {
      noCache: true,
    });
    assert.equal(output, "ours\n");
  });

  test("ADD of an archive stays in its destination", async () => {
    wipe();
    const make = [
      `ln -s ${victim} l`,
      "tar -cf evil.tar l",
      "rm l && mkdir l && echo planted > l/planted",
      "tar -rf evil.tar l/planted",
      "tar -P --transform 's,^l/,../../../victim/,' -rf evil.tar l/planted",
    ].join(" && ");
    const made = spawnSync("sh", ["-ec", make], { cwd: lab.context });
    assert.equal(made.status, 0, made.stderr.toString());
    // The link in the archive is resolved with the destination as root.
    await lab.build("FROM scratch\nADD evil.tar /in/\n");
    assert.deepEqual(readdirSync(victim), ["secret"]);
  });
});
