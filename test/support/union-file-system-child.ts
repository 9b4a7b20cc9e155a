/**
 * Serves unions one after another. Each line of its input is JSON of where to mount and of a union's options; it prints
 * `ready` when the mount is there, and `done` when it is gone.
 */
import { createReadStream, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { mountFuse } from "../../src/fuse/mount.ts";
import { serve } from "../../src/fuse/session.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { UnionFileSystem } from "../../src/fuse/union/union-file-system.ts";

const lines = createInterface({ input: createReadStream("", { fd: 0 }) });
for await (const line of lines) {
  const { target, options } = JSON.parse(line) as { target: string; options: UnionOptions };
  using union = new UnionFileSystem(options);
  const readOnly = options.upper === undefined;
  using device = mountFuse({ target, source: "lamella", subtype: "lamella-overlay", allowOther: true, readOnly });
  writeSync(1, "ready\n");
  serve(device.fd, union, { passthrough: true, onError: (error) => console.error(error) });
  writeSync(1, "done\n");
}
