/** A layer that an overlay wrote, exported with its record and made again from it: the same bytes, data and all. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { exportLayer } from "../../src/diff/export-layer.ts";
import { readLayerTar } from "../../src/diff/tar-record.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { OverlayLab, privateMounts } from "../support/overlay-lab.ts";

test("metacopy files, also with attributes that take a block of their own, give their data", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using lab = new OverlayLab({ redirectDir: true, metacopy: true });
  lab.base("mkdir d; echo data > d/plain; head -c 5000 /dev/zero | tr '\\0' x > d/long; ln d/plain d/second");
  const source = lab.upperOver((merged) => {
    using at = sys.open(join(merged, "d"), C.O_RDONLY | C.O_DIRECTORY);
    for (const name of ["plain", "long"]) {
      sys.lsetxattrat(at.fd, name, "user.big", Buffer.alloc(1500, "v"));
      sys.lchmodat(at.fd, name, 0o600);
    }
    using root = sys.open(merged, C.O_RDONLY | C.O_DIRECTORY);
    sys.renameat2(root.fd, "d", root.fd, "moved");
  });
  const recordPath = join(lab.directory, "record");
  const { diffId, added, deleted } = await exportLayer({ source, recordPath });
  assert.deepEqual([added, deleted], [4, 1]);
  const hash = createHash("sha256");
  let text = "";
  const content = { layers: [source.upper, ...source.lowers], prefix: source.prefix };
  for await (const chunk of readLayerTar({ recordPath, spillDir: join(lab.directory, "spill"), content, diffId })) {
    hash.update(chunk);
    text += Buffer.from(chunk).toString("latin1");
  }
  assert.equal(`sha256:${hash.digest("hex")}`, diffId);
  assert.ok(text.includes("data\n") && text.includes("x".repeat(5000)));
});
