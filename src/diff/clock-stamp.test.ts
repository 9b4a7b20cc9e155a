import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { type ClockStamp, clockDoubt, parseClockStamp, SettledTimes, takeClockStamp } from "./clock-stamp.ts";

const home = mkdtempSync(join(tmpdir(), "lamella-clock-"));
after(() => rmSync(home, { recursive: true }));

const stamp: ClockStamp = { sec: 1000, nsec: 500_000_000, granularityNs: 1, boot: "b", offsetUs: 5 };

describe("a clock stamp", () => {
  it("is the file system's time, and leaves no file", () => {
    const taken = takeClockStamp(home);
    assert.deepEqual(readdirSync(home), []);
    closeSync(openSync(join(home, "f"), "w"));
    const ns = statSync(join(home, "f"), { bigint: true }).ctimeNs;
    assert.ok(BigInt(taken.sec) * 1_000_000_000n + BigInt(taken.nsec) <= ns);
    assert.ok(Math.abs(Date.now() / 1000 - taken.sec) < 60);
    assert.ok(taken.granularityNs <= 1_000_000, "this file system keeps fractions of seconds");
  });

  it("is trusted in the boot it was taken in, as long as the clock is not set back", () => {
    const taken = takeClockStamp(home);
    assert.equal(clockDoubt(taken), undefined);
    assert.equal(clockDoubt({ ...taken, offsetUs: taken.offsetUs - 3600e6 }), undefined, "set forward since");
    assert.match(clockDoubt({ ...taken, offsetUs: taken.offsetUs + 1e6 }) ?? "", /set back/);
    assert.match(clockDoubt({ ...taken, boot: "another" }) ?? "", /started anew/);
  });

  it("survives JSON; what is none is refused", () => {
    const taken = takeClockStamp(home);
    assert.deepEqual(parseClockStamp(JSON.parse(JSON.stringify(taken))), taken);
    for (const bad of [
      undefined,
      null,
      3,
      "",
      [],
      {},
      { ...taken, sec: "1" },
      { ...taken, boot: 1 },
      { ...taken, nsec: 0.5 },
    ])
      assert.equal(parseClockStamp(bad), undefined);
  });
});

describe("change times safely before a stamp", () => {
  const has = (sec: number, nsec: number, more: Partial<ClockStamp> = {}): boolean =>
    new SettledTimes({ ...stamp, ...more }).has({ ctimeSec: sec, ctimeNsec: nsec });

  it("are more than two ticks and the file system's steps away", () => {
    assert.equal(has(1000, 479_999_998), true);
    assert.equal(has(1000, 479_999_999), false);
    assert.equal(has(1000, 500_000_000), false);
    assert.equal(has(1001, 1), false);
    assert.equal(has(999, 999_999_999), true);
    assert.equal(has(999, 400_000_000, { granularityNs: 1_000_000_000 }), true);
    assert.equal(has(999, 500_000_000, { granularityNs: 1_000_000_000 }), false);
  });

  it("are two seconds away when they are whole seconds, whatever the file system keeps", () => {
    assert.equal(has(998, 0), true);
    assert.equal(has(999, 0), false);
    assert.equal(has(998, 0, { nsec: 10_000_000 }), false);
    assert.equal(has(997, 0, { nsec: 10_000_000 }), true);
  });

  it("never include one that a later change can have", () => {
    const steps = fc.constantFrom(1, 100, 1000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000);
    fc.assert(
      fc.property(fc.nat(2e9), fc.nat(4e9), steps, fc.nat(10_000_000), (at, laterNs, step, tick) => {
        const cut = (ns: number): { sec: number; nsec: number } => {
          const kept = Math.floor((1e12 + ns) / step) * step;
          return { sec: Math.floor(kept / 1e9), nsec: kept % 1e9 };
        };
        // The stamp is taken at `at`, or shows the tick before; a change afterwards may show the same tick.
        const { sec, nsec } = cut(at);
        const changed = cut(Math.max(at - tick, at + laterNs - tick));
        const settled = new SettledTimes({ ...stamp, sec, nsec, granularityNs: step });
        assert.equal(settled.has({ ctimeSec: changed.sec, ctimeNsec: changed.nsec }), false);
      }),
    );
  });
});
