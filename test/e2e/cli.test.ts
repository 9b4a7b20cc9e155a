import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CliLab } from "./cli-harness.ts";

const lab = new CliLab();
const unsupported = lab.unsupported();
after(() => lab[Symbol.dispose]());

test("usage: help, versions, misspelt words, statuses", () => {
  assert.match(lab.ok("--help"), /Images:[\s\S]*Containers:[\s\S]*Store:/);
  assert.match(lab.ok("--version"), /^\d+\.\d+\.\d+$/);
  assert.equal(lab.lamella().status, 2);
  const misspelt = lab.lamella("imgaes");
  assert.equal(misspelt.status, 2);
  assert.equal(misspelt.stdout, "");
  assert.equal(misspelt.stderr, 'lamella: unknown command "imgaes"\nhint: did you mean images?\n');
  assert.match(lab.lamella("info", "--wyh").stderr, /^lamella: unknown option '--wyh'\nhint: did you mean --why\?\n$/);
  assert.equal(lab.lamella("tag", "one").status, 2);
  assert.equal(lab.lamella("images", "--driver-opt", "novalue").status, 2);
});

test("a root that cannot be one", () => {
  for (const root of ["/proc/nothing/store", "/dev/null/store"]) {
    const { status, stderr } = lab.lamella("--root", root, "images");
    assert.equal(status, 1);
    assert.match(stderr, /^lamella: .* cannot hold a store: .*\nhint: name another directory/);
  }
});

test("every command has help with an example", () => {
  const commands = [...lab.ok("--help").matchAll(/^ {2}([a-z]+) {2,}[A-Z]/gm)].map(([, name]) => name as string);
  assert.ok(commands.length >= 22, `${commands.length} commands`);
  for (const command of commands) {
    const help = lab.ok(command, "--help");
    assert.match(help, new RegExp(`^Usage: lamella ${command}`));
    assert.match(help, /\nExample:\n {2}\S/, command);
  }
});

test("info prints the driver's lines as docker info does", { skip: unsupported }, () => {
  const lines = lab.ok("info").split("\n");
  const at = lines.indexOf(" Storage Driver: overlay2");
  assert.ok(at > 0);
  assert.deepEqual(
    lines.slice(at + 1, at + 6).map((line) => line.split(":")[0]),
    ["  Backing Filesystem", "  Supports d_type", "  Using metacopy", "  Native Overlay Diff", "  userxattr"],
  );
  assert.ok(lines.includes("  Native Overlay Diff: true"));
  assert.match(
    lab.ok("info", "--why"),
    /\nWhy overlay2:\n chosen: [\s\S]* d_type: yes\n[\s\S]*\nWhy vfs:\n not chosen: /,
  );
  const info = lab.json<{ driver: string; status: [string, string][]; drivers?: unknown[] }>("info", "--why");
  assert.equal(info.driver, "overlay2");
  assert.ok(info.drivers?.length);
});

describe("images and containers", { skip: unsupported }, () => {
  before(() => lab.importBase());

  test("images and history: Docker's tables, IDs alone with -q", () => {
    const [head = "", row = ""] = lab.ok("images").split("\n");
    assert.match(head, /^REPOSITORY {3}TAG {6}IMAGE ID {7}CREATED {2,}SIZE$/);
    assert.match(row, /^base {9}latest {3}[0-9a-f]{12} {3}.* ago {3}\S+B$/);
    assert.match(lab.ok("images", "-q"), /^[0-9a-f]{12}$/);
    assert.equal(lab.ok("images", "-q", "nothing"), "");
    assert.match(lab.ok("history", "base").split("\n")[0] ?? "", /^IMAGE +CREATED +CREATED BY +SIZE +COMMENT$/);
    const [image] = lab.json<{ id: string; tags: string[]; sizeBytes: number }[]>("images");
    assert.deepEqual(image?.tags, ["base:latest"]);
    assert.match(image?.id ?? "", /^sha256:[0-9a-f]{64}$/);
  });

  test("inspect answers with Docker's array", () => {
    interface Inspection {
      readonly RepoTags: string[];
      readonly Os: string;
      readonly RootFS: { readonly Layers: string[] };
      readonly GraphDriver: { readonly Name: string };
    }
    const [image] = lab.json<Inspection[]>("inspect", "base");
    assert.deepEqual(image?.RepoTags, ["base:latest"]);
    assert.equal(image?.Os, "linux");
    assert.equal(image?.RootFS.Layers.length, 1);
    assert.equal(image?.GraphDriver.Name, "overlay2");
  });

  test("an unknown image: status 1 and the nearest names", () => {
    const { status, stdout, stderr } = lab.lamella("create", "bose");
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.equal(stderr, 'lamella: no image "bose" in the store\nhint: did you mean base:latest?\n');
  });

  test("ls and cat look into an image", () => {
    assert.ok(lab.ok("ls", "base").split("\n").includes("etc"));
    assert.match(lab.ok("ls", "-l", "base", "/etc"), /^-rw-r--r-- 1 0 0 +\d+ \d{4}-\d\d-\d\d \d\d:\d\d passwd$/m);
    assert.match(lab.ok("cat", "base", "/etc/passwd"), /^root:x:0:0:/);
    assert.match(lab.ok("cat", "base", "etc/../../etc/./passwd"), /^root:/);
    const missing = lab.lamella("cat", "base", "/etc/shadow");
    assert.equal(missing.status, 1);
    assert.equal(missing.stderr, "lamella: /etc/shadow: no such file or directory\n");
  });

  test("create prints the ID alone, mount the path alone; diff has Docker's letters", () => {
    const { status, stdout, stderr } = lab.script(`
      id=$(lamella create --name one base)
      path=$(lamella mount "$id")
      echo "$id"; echo "$path"; lamella mount one
      echo new > "$path/etc/new"; rm "$path/etc/hostname"; chmod 600 "$path/etc/group"
      lamella diff one
      if lamella rm one 2> refused; then exit 9; fi
      lamella umount one
      if grep -q "$path" /proc/self/mountinfo; then exit 8; fi
      lamella diff "$id"
      lamella commit -m why one app:1`);
    assert.equal(status, 0, stderr);
    const [id = "", path = "", again, ...rest] = stdout.trimEnd().split("\n");
    assert.match(id, /^[0-9a-f]{64}$/);
    assert.ok(path.startsWith(`${lab.root}/`));
    assert.equal(again, path);
    const changes = ["C /etc", "C /etc/group", "D /etc/hostname", "A /etc/new"];
    assert.deepEqual(rest.slice(0, -1), [...changes, "one", ...changes]);
    assert.match(rest.at(-1) ?? "", /^sha256:[0-9a-f]{64}$/);
    assert.match(readFileSync(join(lab.directory, "refused"), "utf8"), /^lamella: .*\nhint: /);

    assert.equal(lab.ok("cat", "app:1", "/etc/new"), "new");
    assert.equal(lab.lamella("cat", "app:1", "/etc/hostname").status, 1);
    const steps = lab.json<{ comment: string; sizeBytes: number }[]>("history", "app:1");
    assert.equal(steps.length, 2);
    assert.equal(steps[0]?.comment, "why");
    assert.deepEqual(
      lab.json<{ name: string }[]>("ps").map(({ name }) => name),
      ["one"],
    );
    assert.equal(lab.ok("rm", "one"), "one");
    assert.equal(lab.ok("ps", "-q"), "");
  });

  test("run: the command's status, 125 to 127 when it did not start", () => {
    const statusOf = (...words: string[]): number => {
      const { status, stderr } = lab.lamella("run", "--rm", ...words);
      if (status === 125 && words[0] === "base" && words.length > 1) assert.fail(stderr);
      return status;
    };
    assert.equal(lab.ok("run", "--rm", "base", "echo", "--json"), "--json");
    assert.equal(statusOf("base", "sh", "-c", "exit 42"), 42);
    assert.equal(statusOf("base", "no-such-program"), 127);
    assert.equal(statusOf("base", "/etc/passwd"), 126);
    assert.equal(statusOf("no-such-image", "true"), 125);
    assert.equal(statusOf("base"), 125);
    assert.equal(lab.lamella("run", "--rm").status, 2);
    assert.equal(lab.ok("ps", "-q"), "");
  });

  test("run: environment, directory, user, standard input, both outputs", () => {
    const words = ["-e", "A=1", "-e", "NOT_SET", "-w", "/tmp", "-u", "65534:65534", "base"];
    assert.equal(
      lab.ok("run", "--rm", ...words, "sh", "-c", 'echo "$A $NOT_SET $(pwd)"; cat /proc/self/status | grep ^Uid'),
      "1  /tmp\nUid:\t65534\t65534\t65534\t65534",
    );
    const both = lab.lamella("run", "--rm", "base", "sh", "-c", "echo out; echo err >&2");
    assert.deepEqual([both.stdout, both.stderr], ["out\n", "err\n"]);
    const { stdout } = lab.script("echo typed | lamella run --rm -i base cat; echo typed | lamella run --rm base cat");
    assert.equal(stdout, "typed\n");
  });

  test("a container that stays keeps its changes", () => {
    lab.ok("run", "--name", "kept", "base", "touch", "/var/made");
    assert.deepEqual(lab.ok("diff", "kept").split("\n"), ["C /var", "A /var/made"]);
    lab.ok("rm", "kept");
  });

  test("save and load give the same image back", () => {
    const id = lab.json<{ id: string }[]>("images", "base")[0]?.id;
    for (const [format, file] of [
      ["docker-archive", "a.tar"],
      ["oci-archive", "b.tar"],
      ["oci", "c"],
    ] as const) {
      const path = join(lab.directory, file);
      lab.ok("save", "--format", format, "-o", path, "base");
      assert.ok(existsSync(path));
      using other = new CliLab();
      assert.equal(other.ok("load", "-q", "-i", path), id);
      assert.equal(other.ok("cat", "base", "/etc/passwd"), lab.ok("cat", "base", "/etc/passwd"));
    }
    using other = new CliLab();
    const { stdout } = other.script(`LAMELLA_ROOT=${lab.root} lamella save base | lamella load`);
    assert.equal(stdout, "Loaded image: base:latest\n");
    assert.equal(lab.lamella("save", "--format", "oci", "base").status, 2);
  });

  test("import takes tars from files and standard input", () => {
    const tree = join(lab.directory, "tree");
    mkdirSync(tree);
    writeFileSync(join(tree, "file"), "content\n");
    const { status, stdout, stderr } = lab.script(
      "tar -C tree -czf tree.tgz . ; lamella import tree.tgz from-file; cat tree.tgz | lamella import - from-stdin",
    );
    assert.equal(status, 0, stderr);
    assert.equal(stdout.trimEnd().split("\n").length, 2);
    assert.equal(lab.ok("cat", "from-file", "file"), "content");
    assert.equal(lab.ok("cat", "from-stdin", "/file"), "content");
    const nothing = lab.lamella("import", "/no/such/tree", "x");
    assert.equal(nothing.status, 1);
    assert.match(nothing.stderr, /^lamella: \/no\/such\/tree: no such file or directory\nhint: /);
    lab.ok("rmi", "from-file", "from-stdin");
  });

  test("SOURCE_DATE_EPOCH makes imports repeatable", () => {
    using first = new CliLab({ env: { SOURCE_DATE_EPOCH: "1700000000" } });
    const tree = join(lab.directory, "tree");
    const id = first.ok("import", tree, "x");
    assert.equal(first.ok("import", tree, "y"), id);
    assert.equal(first.json<{ Created: string }[]>("inspect", "x")[0]?.Created, "2023-11-14T22:13:20Z");
    using wrong = new CliLab({ env: { SOURCE_DATE_EPOCH: "yesterday" } });
    assert.equal(wrong.lamella("import", tree, "x").status, 2);
  });

  test("tag, rmi, gc, check and df", () => {
    lab.ok("tag", "base", "base:second");
    assert.equal(lab.ok("rmi", "base:second"), "Untagged: base:second");
    assert.equal(lab.lamella("tag", "base", "UPPER").status, 1);
    assert.match(lab.ok("check", "--deep"), /: all is well$/);
    assert.deepEqual(lab.json<{ findings: unknown[] }>("check").findings, []);
    lab.ok("gc", "--all");
    const { totalBytes } = lab.json<{ totalBytes: number }>("df");
    const { stdout } = lab.run(["du", "-s", "-B1", lab.root]);
    assert.equal(totalBytes, Number(stdout.split("\t")[0]));
    assert.match(lab.ok("df"), /^Total +\S+B$/m);
  });

  test("several names: one that fails does not keep the others", () => {
    lab.ok("tag", "base", "other");
    const { status, stdout, stderr } = lab.lamella("rmi", "no-such", "other");
    assert.equal(status, 1);
    assert.equal(stdout, "Untagged: other:latest\n");
    assert.match(stderr, /^lamella: no image "no-such"/);
  });

  test("a reader that leaves ends the command quietly", () => {
    const { stdout, stderr } = lab.script("lamella ls -R base | head -1");
    assert.equal(stdout.split("\n").length, 2);
    assert.equal(stderr, "");
  });

  test("NO_COLOR and pipes: no colour sequences", () => {
    for (const words of [["info", "--why"], ["images"], ["nonsense"]]) {
      const { stdout, stderr } = lab.lamella(...words);
      assert.ok(!`${stdout}${stderr}`.includes("\x1b"));
    }
  });
});

test("nothing is left mounted", () => {
  assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(lab.directory));
  assert.ok(statSync(lab.directory).isDirectory());
});
