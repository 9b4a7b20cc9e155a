/** Data through the mount: random input and output with mappings, and a build of a real project, as outside of it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { exerciseFile } from "../support/random-io.ts";
import { UnionServer } from "../support/union-server.ts";

const seed = Number(process.env.LAMELLA_UNION_SEED ?? Date.now() & 0x7fffffff);

interface Scene extends AsyncDisposable {
  readonly path: (name: string) => string;
  readonly merged: string;
  readonly server: UnionServer;
  readonly options: UnionOptions;
}

async function scene(t: TestContext): Promise<Scene | undefined> {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-io-"));
  const path = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(path(name));
  const server = new UnionServer();
  return {
    path,
    merged: path("merged"),
    server,
    options: {
      lowers: [path("lower")],
      upper: path("upper"),
      work: path("work"),
      prefix: "trusted.overlay.",
      redirectDir: true,
      metacopy: true,
    },
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      execFileSync("rm", ["-rf", folder]);
    },
  };
}

test(`random reads, writes and mappings see one file, seed ${seed}`, async (t) => {
  await using at = await scene(t);
  if (!at) return;
  const below = Buffer.alloc(200_000, "what lies below; ");
  const names = ["copied", "metacopy", "renamed"];
  for (const name of names) fs.writeFileSync(at.path(`lower/${name}`), below);
  await at.server.mount(at.merged, at.options);
  fs.writeFileSync(join(at.merged, "new"), below);
  fs.chmodSync(join(at.merged, "metacopy"), 0o600);
  fs.renameSync(join(at.merged, "renamed"), join(at.merged, "other"));
  const found = new Map<string, Buffer>();
  for (const [i, name] of ["copied", "metacopy", "other", "new"].entries())
    found.set(name, await exerciseFile(join(at.merged, name), below, { seed: seed + i, count: 400 }));
  await at.server.unmount();
  for (const [name, content] of found) assert.ok(fs.readFileSync(at.path(`upper/${name}`)).equals(content), name);
  for (const name of names) assert.ok(fs.readFileSync(at.path(`lower/${name}`)).equals(below), `${name} below`);
});

/** Without times, and without what npm writes of the place. Links of directories are counted otherwise in a union. */
function treeOf(root: string): string {
  const list = "find . -type d -printf '%P %y %m\\n' -o -printf '%P %y %m %n %l\\n' | sort";
  const sums = "find . -type f ! -name '.package-lock.json' | sort | xargs sha256sum";
  return execFileSync("sh", ["-c", `${list}; ${sums}`], { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
}

test("a project is installed, compiled and packed as outside", async (t) => {
  await using at = await scene(t);
  if (!at) return;
  const project = join(import.meta.dirname, "../..");
  const pack = "npm pack --offline --ignore-scripts --silent --pack-destination";
  // Two packages of ours as tarballs, so that nothing comes from a network.
  const prepare = `
    mkdir -p project/src dep; cd dep
    echo '{"name":"dep","version":"1.0.0","main":"index.js","bin":{"dep":"index.js"}}' > package.json
    printf '#!/usr/bin/env node\\nmodule.exports = 42;\\n' > index.js; chmod 755 index.js; for i in $(seq 100); do echo $i > file$i; done
    ${pack} ../project .; cd ../project
    echo '{"name":"project","version":"1.0.0","dependencies":{"dep":"file:dep-1.0.0.tgz"}}' > package.json
    npm install --offline --no-audit --no-fund --silent --package-lock-only
    for i in $(seq 40); do
      echo "export const value$i: number = $i;" > src/part$i.ts; echo "int value$i(void) { return $i; }" > src/part$i.c
    done
    echo 'int value7(void); int main(void) { return value7() - 7; }' > src/main.c`;
  sh(`export HOME=$PWD; ${prepare}`, at.path("lower"));
  const compiler = join(project, "node_modules/typescript/bin/tsc");
  const build = `
    export HOME=$PWD; cd project
    npm ci --offline --no-audit --no-fund --silent
    node ${compiler} --outDir out --declaration --target es2022 --module nodenext --moduleResolution nodenext src/*.ts
    if command -v cc; then for c in src/*.c; do cc -c -o "\${c%.c}.o" "$c"; done; cc -o main src/*.o; ./main; fi
    rm -r src; mv out lib; tar -cf - --sort=name --mtime=@0 lib | gzip -n > lib.tgz; rm -rf ../.npm ../dep/file1*`;
  execFileSync("cp", ["-a", at.path("lower"), at.path("outside")]);
  sh(build, at.path("outside"));
  await at.server.mount(at.merged, at.options);
  sh(build, at.merged);
  assert.equal(treeOf(at.merged), treeOf(at.path("outside")));
});
