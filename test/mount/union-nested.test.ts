/** A union where the kernel refuses one: its upper on an overlay of the kernel, and on unions of ours, three deep. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { mountKernelUnion } from "../support/kernel-union.ts";
import { inUserNamespace, privateMounts, sh } from "../support/overlay-lab.ts";
import { differences, snapshot, timeless } from "../support/tree-snapshot.ts";
import { UnionServer } from "../support/union-server.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const prefix = inUserNamespace() ? "user.overlay." : "trusted.overlay.";

const base = `
  mkdir -p dir/sub gone moved/deep; echo one > dir/file; echo two > dir/sub/file; echo three > gone/file
  echo x > moved/deep/file; echo x > removed; ln -s dir link; touch -d @1200000000 dir/file`;

/** What is done in each; nothing of it needs a redirect. */
const change = `
  rm -r gone removed; mkdir gone; echo new > gone/new; echo more >> dir/file; rm -r dir/sub; mv dir/file dir/renamed
  mkdir made; mv link made/; rm -r moved/deep; echo file > moved/deep; chmod 700 dir; echo back > removed; rm removed`;

const depths = 3;

test("unions on unions do what one on a plain file system does", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-nested-"));
  const servers: UnionServer[] = [];
  const at = (name: string): string => join(folder, name);
  try {
    for (const name of ["base", "upper", "work", "plain", "outer", "outer-upper", "outer-work", "empty"])
      fs.mkdirSync(at(name));
    sh(base, at("base"));
    const features = { prefix, redirectDir: false, metacopy: false } as const;
    const plain: UnionOptions = { lowers: [at("base")], upper: at("upper"), work: at("work"), ...features };
    mountKernelUnion(at("plain"), plain);
    sh(change, at("plain"));
    const expected = timeless(snapshot(at("plain")));

    // All the directories of the unions lie on the kernel's overlay, those of each on the one before.
    mountKernelUnion(at("outer"), {
      ...plain,
      lowers: [at("empty")],
      upper: at("outer-upper"),
      work: at("outer-work"),
    });
    let place = at("outer");
    for (let depth = 0; depth < depths; depth++) {
      for (const name of ["base", "upper", "work", "merged"]) fs.mkdirSync(join(place, name));
      sh(base, join(place, "base"));
      const union = {
        lowers: [join(place, "base")],
        upper: join(place, "upper"),
        work: join(place, "work"),
        ...features,
      };
      const server = new UnionServer();
      servers.unshift(server);
      await server.mount(join(place, "merged"), union);
      sh(change, join(place, "merged"));
      assert.deepEqual(differences(expected, timeless(snapshot(join(place, "merged")))), [], `depth ${depth}`);
      await server.unmount();
      await server.mount(join(place, "merged"), union);
      assert.deepEqual(differences(expected, timeless(snapshot(join(place, "merged")))), [], `depth ${depth}, again`);
      place = join(place, "merged");
    }
  } finally {
    for (const server of servers) await server[Symbol.asyncDispose]();
    for (const name of ["outer", "plain"]) umount(at(name));
    execFileSync("rm", ["-rf", folder]);
  }
});

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
