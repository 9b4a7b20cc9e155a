/** Mounts a union at its first argument, with the options that its second holds as JSON, and serves it. */
import { writeSync } from "node:fs";
import { mountFuse } from "../../src/fuse/mount.ts";
import { serve } from "../../src/fuse/session.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { UnionFileSystem } from "../../src/fuse/union/union-file-system.ts";

const [target = "", options = ""] = process.argv.slice(2);
using union = new UnionFileSystem(JSON.parse(options) as UnionOptions);
using device = mountFuse({ target, source: "lamella", subtype: "lamella-overlay", allowOther: true });
writeSync(1, "ready\n");
serve(device.fd, union, { onError: (error) => console.error(error) });
