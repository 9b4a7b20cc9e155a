/** podman and buildah for real, on a storage of their own: found slow, cured, forgotten; refused where files would be lost. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CliLab, type Result } from "../e2e/cli-harness.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { parametersFixed, withParameter } from "../support/overlay-parameters.ts";

const ready = ((): string | true => {
  const isolated = privateMounts();
  if (isolated !== true) return isolated;
  for (const program of ["podman", "buildah"])
    if (spawnSync(program, ["--version"]).status !== 0) return `${program} is not installed`;
  return parametersFixed() ?? true;
})();

/** A storage with the image `base`, of a directory and a file. */
class Storage implements Disposable {
  readonly lab = new CliLab();
  readonly config = join(this.lab.directory, "storage.conf");
  readonly #graph = join(this.lab.directory, "graph");
  readonly #run = join(this.lab.directory, "run");

  constructor(mountOptions: string) {
    const lines = [
      "# of a test",
      "[storage]",
      'driver = "overlay"',
      `graphroot = "${this.#graph}"`,
      `runroot = "${this.#run}"`,
      "[storage.options.overlay]",
      `mountopt = "${mountOptions}" # as shipped`,
    ];
    writeFileSync(this.config, `${lines.join("\n")}\n`);
    mkdirSync(join(this.lab.directory, "tree/dir"), { recursive: true });
    writeFileSync(join(this.lab.directory, "tree/dir/file"), "content");
    const made = this.buildah("from", "scratch");
    this.buildah("add", "-q", made, join(this.lab.directory, "tree"), "/");
    this.buildah("commit", "-q", made, "base");
    this.buildah("rm", made);
  }

  #try(argv: readonly string[]): Result {
    const env = [`CONTAINERS_STORAGE_CONF=${this.config}`, `XDG_RUNTIME_DIR=${this.lab.directory}`];
    return this.lab.run(["env", ...env, ...argv]);
  }

  buildah(...args: readonly string[]): string {
    const { status, stdout, stderr } = this.#try(["buildah", ...args]);
    assert.equal(status, 0, stderr);
    return stdout.trim();
  }

  /** A line of `podman info` about the driver. */
  status(key: string): string {
    const { stdout, stderr } = this.#try(["podman", "info", "-f", "{{json .Store.GraphStatus}}"]);
    return JSON.parse(stdout || stderr)[key];
  }

  doctor(...words: readonly string[]): Result {
    const lamella = new CliLab({ env: { CONTAINERS_STORAGE_CONF: this.config, LAMELLA_ROOT: this.lab.root } });
    using _ = lamella;
    return lamella.lamella("doctor", ...words);
  }

  ids(): string[] {
    return this.doctor("-q")
      .stdout.split("\n")
      .filter((id) => id.startsWith("naive-diff-podman"));
  }

  remembered(): string[] {
    return readdirSync(join(this.#run, "overlay")).filter((name) => /^(native-diff|metacopy)/.test(name));
  }

  [Symbol.dispose](): void {
    this.#try(["buildah", "rm", "-a"]);
    spawnSync("umount", ["-l", join(this.#graph, "overlay")]);
    this.lab[Symbol.dispose]();
  }
}

test("metacopy=on as many distributions ship it: found, cured and undone; podman itself says so", (t) => {
  if (ready !== true) return t.skip(ready);
  using storage = new Storage("nodev,metacopy=on");
  const id = "naive-diff-podman";
  const before = readFileSync(storage.config, "utf8");
  assert.equal(storage.status("Native Overlay Diff"), "false");
  const naive = ["metacopy(nodev,metacopy=on)-true", "native-diff(nodev,metacopy=on)-false"];
  assert.deepEqual(storage.remembered(), naive);
  assert.deepEqual(storage.ids(), [id]);

  // A container that changed a mode has a file of metadata alone in its layer.
  const box = storage.buildah("from", "--pull-never", "base");
  spawnSync("chmod", ["600", join(storage.buildah("mount", box), "dir/file")]);
  storage.buildah("umount", box);
  const refused = storage.doctor("--fix", id, "--yes");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /holds 1 files that are metadata alone, and cannot be read with metacopy off/);
  assert.equal(readFileSync(storage.config, "utf8"), before);
  storage.buildah("rm", box);

  const cured = storage.doctor("--fix", id, "--yes");
  assert.equal(cured.status, 0, cured.stderr);
  const after = before.replace('"nodev,metacopy=on"', '"nodev,redirect_dir=off,metacopy=off"');
  assert.equal(readFileSync(storage.config, "utf8"), after);
  assert.deepEqual(storage.remembered(), []);
  assert.equal(storage.status("Native Overlay Diff"), "true");
  assert.deepEqual(storage.ids(), []);

  assert.equal(storage.doctor("--undo", id).status, 0);
  assert.equal(readFileSync(storage.config, "utf8"), before);
  assert.equal(storage.status("Native Overlay Diff"), "false");
  assert.deepEqual(storage.ids(), [id]);
});

test("by the kernel's default; and what podman remembers when that has gone", (t) => {
  if (ready !== true) return t.skip(ready);
  const on = withParameter("redirect_dir", "Y");
  using storage = ((): Storage => {
    try {
      const made = new Storage("nodev");
      assert.equal(made.status("Native Overlay Diff"), "false");
      assert.deepEqual(made.ids(), ["naive-diff-podman"]);
      return made;
    } finally {
      on[Symbol.dispose]();
    }
  })();
  using _off = withParameter("redirect_dir", "N");
  const id = "naive-diff-podman-remembered";
  assert.equal(storage.status("Native Overlay Diff"), "false", "it does not look again");
  assert.deepEqual(storage.ids(), [id]);
  const cured = storage.doctor("--fix", id, "--yes");
  assert.equal(cured.status, 0, cured.stderr);
  assert.equal(storage.status("Native Overlay Diff"), "true");
  assert.deepEqual(storage.ids(), []);
});
