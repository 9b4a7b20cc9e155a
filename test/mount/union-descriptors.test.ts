/** What a union holds open stays bounded, whatever is visited: 50,000 files with 1024 descriptors allowed. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { gone } from "../support/processes.ts";

const program = join(import.meta.dirname, "../../src/cli/lamella-overlay.ts");
const directories = 2500;
const files = 20;
const limit = 1024;

test("50,000 files in 2,500 directories are visited, and all directories changed, with 1024 descriptors", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-descriptors-"));
  const at = (name: string): string => join(folder, name);
  t.after(() => {
    umount(at("merged"));
    execFileSync("rm", ["-rf", folder]);
  });
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(at(name));
  for (let i = 0; i < directories; i++) {
    const directory = join(at("lower"), `${i % 50}`, `${i}`);
    fs.mkdirSync(directory, { recursive: true });
    for (let j = 0; j < files; j++) fs.writeFileSync(join(directory, `${j}`), "x");
  }
  const options = `lowerdir=${at("lower")},upperdir=${at("upper")},workdir=${at("work")},redirect_dir=on,metacopy=on`;
  // Node.js raises its limit to the hard one.
  const command = ["-c", `ulimit -n ${limit} && exec "$@"`, "sh", process.execPath, ...process.execArgv, program];
  const started = spawnSync("sh", [...command, "-o", options, at("merged")], { encoding: "utf8" });
  assert.equal(started.status, 0, started.stderr);
  const pid = Number(
    execFileSync("pgrep", ["-f", `lamella-overlay.*--tells .*${at("merged")}$`], { encoding: "utf8" }),
  );
  assert.match(fs.readFileSync(`/proc/${pid}/limits`, "utf8"), new RegExp(`Max open files +${limit} +${limit} `));
  const visit = (): number =>
    Number(execFileSync("sh", ["-c", `find ${at("merged")} -type f -size -2 | wc -l`], { encoding: "utf8" }));
  assert.equal(visit(), directories * files);
  sh('for d in */*; do echo y > "$d/new"; done', at("merged"));
  // Some hundreds of files are open at the same time, and removed ones among them.
  const open = Array.from({ length: 200 }, (_, i) => fs.openSync(join(at("merged"), `${i % 50}/${i}/1`), "r+"));
  for (let i = 0; i < 100; i++) fs.rmSync(join(at("merged"), `${i % 50}/${i}/1`));
  assert.equal(visit(), directories * (files + 1) - 100);
  for (const fd of open) assert.equal(fs.writeSync(fd, "z"), 1);
  for (const fd of open) fs.closeSync(fd);
  sh('for d in */*; do mv "$d" "$d.moved"; done', at("merged"));
  assert.equal(visit(), directories * (files + 1) - 100);
  assert.ok(fs.readdirSync(`/proc/${pid}/fd`).length < 700);
  umount(at("merged"));
  await gone(pid);
});
