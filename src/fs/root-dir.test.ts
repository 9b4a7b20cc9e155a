import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { hasCode } from "../errors/syscall-error.ts";
import { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_WRONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { RootDir } from "./root-dir.ts";

function content(fd: number): string {
  const buffer = Buffer.alloc(100);
  return buffer.toString("latin1", 0, sys.read(fd, buffer));
}

for (const resolver of ["kernel", "walk"] as const) {
  describe(`RootDir resolved by ${resolver}`, {
    skip: resolver === "kernel" && !raw.haveOpenat2 && "no openat2",
  }, () => {
    let base = "";
    let tree = "";
    before(() => {
      base = mkdtempSync(join(tmpdir(), "lamella-root-dir-"));
      tree = join(base, "tree");
      mkdirSync(join(tree, "a/b"), { recursive: true });
      writeFileSync(join(base, "secret"), "outside");
      writeFileSync(join(tree, "secret"), "inside");
      writeFileSync(join(tree, "a/b/file"), "file");
      symlinkSync("../../secret", join(tree, "up"));
      symlinkSync(join(base, "secret"), join(tree, "absolute"));
      symlinkSync("/secret", join(tree, "a/rooted"));
      symlinkSync("/a/b", join(tree, "dir"));
      symlinkSync("b", join(tree, "a/sub"));
      symlinkSync("loop", join(tree, "loop"));
      symlinkSync("nothing", join(tree, "dangling"));
      symlinkSync("new", join(tree, "to-new"));
    });
    after(() => rmSync(base, { recursive: true }));

    const read = (path: string, outside: "clamp" | "refuse" = "clamp"): string => {
      using root = RootDir.open(tree, resolver);
      using file = root.open(path, O_RDONLY, 0, { escape: outside });
      return content(file.fd);
    };
    const fails = (code: string, body: () => unknown): void =>
      assert.throws(body, (error) => hasCode(error, code) || assert.fail(`${error}, not ${code}`));

    it("opens files by plain paths, slashes and dots", () => {
      for (const path of ["a/b/file", "/a/b/file", "a//./b/file", "a/../a/b/file", "../../a/b/file"])
        assert.equal(read(path), "file");
    });
    it("takes the root for / in links and stops .. there", () => {
      assert.equal(read("up"), "inside");
      assert.equal(read("a/rooted"), "inside");
      assert.equal(read("../secret"), "inside");
      assert.equal(read("dir/file"), "file");
      assert.equal(read("a/sub/../b/file"), "file");
      fails("ENOENT", () => read("absolute"));
    });
    it("refuses what leads out when told so", () => {
      for (const path of ["up", "absolute", "a/rooted", "../secret", "/secret", "dir/file"])
        fails("EXDEV", () => read(path, "refuse"));
      assert.equal(read("a/sub/../b/file", "refuse"), "file");
    });
    it("refuses loops, files as directories, and links when told so", () => {
      fails("ELOOP", () => read("loop"));
      fails("ENOTDIR", () => read("secret/x"));
      using root = RootDir.open(tree, resolver);
      fails("ELOOP", () => root.open("a/sub/file", O_RDONLY, 0, { symlinks: "refuse" }));
      fails("ELOOP", () => root.open("dir", O_RDONLY | O_NOFOLLOW));
    });
    it("refuses magic links", () => {
      using root = RootDir.open("/proc", resolver);
      using opened = sys.open(join(base, "secret"), O_RDONLY);
      const self = String(process.pid);
      for (const path of [`${self}/fd/${opened.fd}`, `${self}/root`, `${self}/cwd`, `${self}/exe`])
        fails("ELOOP", () => root.open(path, O_RDONLY));
      fails("ELOOP", () => root.open(`${self}/root/etc`, O_PATH));
    });
    it("creates through links inside the root alone", () => {
      using root = RootDir.open(tree, resolver);
      using made = root.open("to-new", O_WRONLY | O_CREAT, 0o640);
      sys.writeAll(made.fd, Buffer.from("made"));
      assert.equal(readFileSync(join(tree, "new"), "utf8"), "made");
      fails("EEXIST", () => root.open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0o600));
      fails("ENOENT", () => root.open("absolute", O_WRONLY | O_CREAT, 0o600));
    });
    it("names objects without following them", () => {
      using root = RootDir.open(tree, resolver);
      assert.equal(root.readlink("up"), "../../secret");
      assert.equal((root.stat("up")?.mode ?? 0) & 0o170000, 0o120000);
      assert.equal((root.stat("")?.mode ?? 0) & 0o170000, 0o040000);
      assert.equal(root.stat("a/none"), undefined);
      assert.equal(root.stat("secret/none"), undefined);
      fails("EINVAL", () => root.at("a/.."));
    });
    it("makes directories with mode and owner, and removes trees but not what links point to", () => {
      using root = RootDir.open(tree, resolver);
      assert.equal(root.mkdirAll("a/b/c/d", { mode: 0o2751 }), 2);
      assert.equal((root.stat("a/b/c/d")?.mode ?? 0) & 0o7777, 0o2751);
      assert.equal(root.mkdirAll("dir/e"), 1);
      assert.equal(root.mkdirAll("../f"), 1);
      assert.notEqual(root.stat("a/b/e"), undefined);
      fails("EEXIST", () => root.mkdirAll("dangling/x"));
      fails("ENOTDIR", () => root.mkdirAll("secret/x"));
      symlinkSync(base, join(tree, "a/b/c/out"));
      assert.equal(root.remove("a/b/c"), true);
      assert.equal(readFileSync(join(base, "secret"), "utf8"), "outside");
      assert.equal(root.remove("a/b/c"), true);
      using list = root.open("a/b", O_RDONLY | O_DIRECTORY);
      assert.deepEqual(
        sys
          .readdir(list.fd)
          .map((entry) => entry.name)
          .sort(),
        ["e", "file"],
      );
    });
    it("stays inside while another process swaps a directory and a link", async () => {
      // The swapper exchanges `race` (a directory) and `race-link` (a link out of the root) as fast as it can.
      mkdirSync(join(tree, "race"));
      writeFileSync(join(tree, "race/secret"), "inside");
      symlinkSync(base, join(tree, "race-link"));
      const swapper = spawn("python3", ["-c", SWAP, join(tree, "race"), join(tree, "race-link")], { stdio: "ignore" });
      try {
        using root = RootDir.open(tree, resolver);
        let opened = 0;
        const end = Date.now() + 700;
        while (Date.now() < end) {
          for (const path of ["race/secret", "race/../race/secret", "race-link/secret"]) {
            try {
              using file = root.open(path, O_RDONLY);
              assert.equal(content(file.fd), "inside");
              opened++;
            } catch (error) {
              if (!hasCode(error, "ENOENT", "ELOOP", "ENOTDIR")) throw error;
            }
          }
        }
        assert.ok(opened > 0);
      } finally {
        const ended = new Promise((resolve) => swapper.once("exit", resolve));
        swapper.kill("SIGKILL");
        await ended;
      }
    });
  });
}

const SWAP = `
import ctypes, sys
libc = ctypes.CDLL(None)
a, b = (path.encode() for path in sys.argv[1:])
while True: libc.renameat2(-100, a, -100, b, 2)
`;
