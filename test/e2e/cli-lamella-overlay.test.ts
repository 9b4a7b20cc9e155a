/**
 * A build with the driver fuse-overlay: on an ordinary file system, and where the kernel refuses overlays (on an overlay, where
 * it is chosen unasked; on zfs-fuse); as root and in a user namespace.
 */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";
import { zfsPlace } from "../support/zfs-lab.ts";
import { CliLab, project } from "./cli-harness.ts";

const dockerfile = `FROM base
COPY note.txt /dir/note.txt
RUN mkdir /dir/sub && echo made > /dir/sub/made && rm /etc/hostname; mv /dir/note.txt /dir/renamed
RUN rm -r /dir/sub && mkdir /dir/sub && echo again > /dir/sub/again && ln /dir/renamed /linked
RUN mv /dir /place && chmod -R go-w /place && mkdir /dir && mv /place/* /dir && rmdir /place && mv /etc /elsewhere && mv /elsewhere /etc
CMD ["cat", "/linked"]
`;

interface Here {
  readonly place: string;
  readonly directory: string;
  readonly skip: string | undefined;
  /** Why the driver is taken unasked; without, it is named. */
  readonly chosen?: RegExp;
}

const overlay = placeOf("overlay");
const ours = ["--driver", "fuse-overlay"];
const places: Here[] = [
  { place: "the host's file system", ...placeOf("host") },
  // Where a kernel's overlay has no place any more.
  { place: "an overlay", ...overlay, chosen: /^Why overlay2:\n not possible: .*upper/m },
];
if (!inUserNamespace()) {
  const zfs = zfsPlace();
  places.push({ place: mounterHere() === "daemon" ? "zfs-fuse" : "zfs", directory: zfs.directory, skip: zfs.skip });
}

for (const { place, directory, skip, chosen } of places)
  test(`on ${place}: build, run, mount, diff and commit`, { skip }, () => {
    using lab = new CliLab({ env: { LAMELLA_ROOT: directoryIn({ directory, skip }, "store") } });
    const options = chosen === undefined ? ours : [];
    const lamella = (command: string, ...words: string[]): string => lab.ok(command, ...options, ...words);
    const info = lamella("info", "--why");
    assert.match(info, /^ Storage Driver: fuse-overlay$/m);
    assert.match(info, /^ Mount Program: .*lamella-overlay/m);
    assert.match(info, /^ Using redirect_dir: true$/m);
    if (chosen !== undefined) assert.match(info, chosen);
    const base = join(lab.directory, "base");
    assert.equal(lab.run([process.execPath, join(project, "examples/base-image.mjs"), base, "50"]).status, 0);
    lamella("import", base, "base");
    const context = join(lab.directory, "context");
    mkdirSync(context);
    writeFileSync(join(context, "Dockerfile"), dockerfile);
    writeFileSync(join(context, "note.txt"), "note\n");
    lamella("build", "-t", "app", context);
    assert.equal(lamella("run", "--rm", "app"), "note");
    assert.equal(lamella("ls", "app", "/dir").trim().split(/\s+/).at(-1), "sub");
    assert.equal(lamella("cat", "app", "/dir/sub/again"), "again");
    const id = lamella("create", "app");
    const path = lamella("mount", id);
    appendFileSync(join(path, "dir/renamed"), "more");
    rmSync(join(path, "linked"));
    assert.equal(lamella("diff", id), "C /dir\nC /dir/renamed\nD /linked");
    lamella("umount", id);
    lamella("commit", id, "app:2");
    assert.equal(lamella("cat", "app:2", "/dir/renamed"), "note\nmore");
    lamella("rm", id);
    assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(lab.directory));
  });

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
