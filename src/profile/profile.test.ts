import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { Function as Fn, Line, Location, Profile as Pprof, Sample, StringTable, ValueType } from "pprof-format";
import { flameDepth, flameTree } from "./flame-tree.ts";
import { readFolded, writeFolded } from "./folded.ts";
import { parseGoroutineDump } from "./goroutine-dump.ts";
import { readPprof } from "./pprof.ts";
import { mergeSamples, type Profile, totalWeight } from "./profile.ts";
import { writeSpeedscope } from "./speedscope.ts";

const dump = `time="..." level=info msg="=== BEGIN goroutine stack dump ==="
goroutine 101 [runnable]:
syscall.Lstat(...)
\t/usr/lib/go/src/syscall/syscall.go:100 +0x4
os.(*File).Close(0xc0012d2501?)
\t/usr/lib/go/src/os/file.go:1
archive.walk[...]({0xc00192b1f0?, 0xc?}, func(0x1))
\t/a.go:10 +0x20
created by net/http.(*Server).Serve in goroutine 20
\t/s.go:3 +0x1

goroutine 7 [chan receive, 5 minutes, locked to thread]:
main.main()
\t/m.go:1
...additional frames elided...
goroutine 8 gp=0xc0001 m=nil [idle]:
runtime.gopark(0x0)
\t/p.go:1
goroutine 9 [dead]:
=== END goroutine stack dump ===
`;

test("a goroutine dump: names without arguments, the outermost first, and what is around it passed over", () => {
  assert.deepEqual(parseGoroutineDump(dump), [
    {
      id: 101,
      state: "runnable",
      waitMinutes: 0,
      frames: ["archive.walk[...]", "os.(*File).Close", "syscall.Lstat"],
      createdBy: "net/http.(*Server).Serve",
    },
    { id: 7, state: "chan receive", waitMinutes: 5, frames: ["main.main"], createdBy: undefined },
    { id: 8, state: "idle", waitMinutes: 0, frames: ["runtime.gopark"], createdBy: undefined },
  ]);
  assert.deepEqual(parseGoroutineDump("nothing of the kind\n"), []);
});

const profile: Profile = {
  name: "example",
  unit: "none",
  samples: [
    { frames: ["main", "a", "walk", "walk", "lstat"], weight: 3 },
    { frames: ["main", "b", "lstat"], weight: 2 },
    { frames: ["main", "a", "walk", "walk", "lstat"], weight: 1 },
  ],
};

test("merging keeps the weight", () => {
  const merged = mergeSamples(profile);
  assert.equal(totalWeight(merged), 6);
  assert.deepEqual(
    merged.samples.map(({ weight }) => weight),
    [4, 2],
  );
});

test("flame trees: upright from the outermost function, inverted from the one that ran", () => {
  const upright = flameTree(profile, "upright");
  assert.equal(upright.weight, 6);
  assert.deepEqual(
    upright.children[0]?.children.map(({ name, weight }) => [name, weight]),
    [
      ["a", 4],
      ["b", 2],
    ],
  );
  assert.equal(flameDepth(upright), 5, "walk, which calls itself, is drawn once");
  const inverted = flameTree(profile, "inverted");
  assert.deepEqual(
    inverted.children.map(({ name, weight }) => [name, weight]),
    [["lstat", 6]],
  );
});

test("folded stacks: written and read again they are the same", () => {
  assert.equal(writeFolded(profile), "main;a;walk;walk;lstat 4\nmain;b;lstat 2\n");
  const frame = fc.stringMatching(/^[a-zA-Z(*.)/ ]{0,9}[a-z]$/).map((name) => `f${name}`);
  const samples = fc.array(fc.record({ frames: fc.array(frame, { minLength: 1 }), weight: fc.nat() }), {
    minLength: 1,
  });
  fc.assert(
    fc.property(samples, (samples) => {
      const merged = mergeSamples({ name: "x", unit: "none", samples });
      assert.deepEqual(readFolded(writeFolded(merged), "x"), merged);
    }),
    { numRuns: 50 },
  );
  assert.equal(readFolded("no number\n", "x"), undefined);
});

test("speedscope: indices into shared frames, and the sum of the weights", () => {
  const file = JSON.parse(writeSpeedscope(profile));
  assert.deepEqual(
    file.shared.frames.map(({ name }: { name: string }) => name),
    ["main", "a", "walk", "lstat", "b"],
  );
  assert.deepEqual(file.profiles[0].samples[1], [0, 4, 3]);
  assert.equal(file.profiles[0].endValue, 6);
  assert.equal(file.profiles[0].type, "sampled");
});

function pprofBytes(): Uint8Array {
  const stringTable = new StringTable();
  const text = (one: string): number => stringTable.dedup(one);
  const fn = (id: number, name: string): Fn => new Fn({ id, name: text(name) });
  const location = (id: number, ...functions: number[]): Location =>
    new Location({ id, line: functions.map((functionId) => new Line({ functionId })) });
  return new Pprof({
    stringTable,
    sampleType: [
      new ValueType({ type: text("samples"), unit: text("count") }),
      new ValueType({ type: text("cpu"), unit: text("nanoseconds") }),
    ],
    function: [fn(1, "main"), fn(2, "inlined"), fn(3, "around")],
    location: [location(1, 1), location(2, 2, 3), new Location({ id: 3, address: 0xabc })],
    sample: [
      new Sample({ locationId: [2, 1], value: [1, 10_000_000] }),
      new Sample({ locationId: [3, 1], value: [2, 20_000_000] }),
    ],
  }).encode();
}

test("pprof: the last value, inlined functions inside what they are in, addresses without a name", () => {
  const expected: Profile = {
    name: "cpu",
    unit: "nanoseconds",
    samples: [
      { frames: ["main", "around", "inlined"], weight: 10_000_000 },
      { frames: ["main", "0xabc"], weight: 20_000_000 },
    ],
  };
  assert.deepEqual(readPprof(pprofBytes(), "cpu"), expected);
  assert.deepEqual(readPprof(gzipSync(pprofBytes()), "cpu"), expected);
  for (const bad of [Buffer.alloc(0), Buffer.from("text"), gzipSync(pprofBytes()).subarray(0, 40)])
    assert.throws(() => readPprof(bad, "bad"), { code: "BAD_PROFILE" });
});
