/** Moves to the driver devicemapper and away from it, in a machine that has a device mapper. */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Journey } from "../../mount/migrate-there-and-back.ts";
import { devicesOfHost, sizes } from "../../support/thin-pools.ts";

const child = fileURLToPath(new URL("../../mount/migrate-there-and-back.ts", import.meta.url));

for (const [from, to] of [
  ["overlay2", "devicemapper"],
  ["devicemapper", "overlay2"],
] as const)
  test(`${from} to ${to}`, async () => {
    const host = devicesOfHost();
    // On the disk: a file system in memory is no place for pools.
    const at = mkdtempSync("/var/tmp/migrate-");
    const traveller = fork(child);
    try {
      const journey: Journey = {
        from,
        to,
        root: join(at, "old"),
        shares: "nothing",
        killed: false,
        driverOptions: { devicemapper: sizes },
        wholeSeconds: false,
      };
      const answer = once(traveller, "message");
      traveller.send(journey);
      const [wrong] = await answer;
      assert.equal(wrong, "");
    } finally {
      const ended = once(traveller, "exit");
      traveller.kill();
      await ended;
      rmSync(at, { recursive: true });
    }
    assert.deepEqual(devicesOfHost(), host);
  });
