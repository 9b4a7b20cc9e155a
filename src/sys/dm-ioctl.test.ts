import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as codec from "./dm-ioctl.ts";

test("the ioctl numbers are the kernel's", () => {
  // From linux/dm-ioctl.h by the C compiler.
  assert.equal(codec.DM_VERSION, 0xc138fd00);
  assert.equal(codec.DM_DEV_SUSPEND, 0xc138fd06);
  assert.equal(codec.DM_TARGET_MSG, 0xc138fd0e);
  assert.equal(codec.DM_GET_TARGET_VERSION, 0xc138fd11);
});

test("a request has its fields where struct dm_ioctl has them", () => {
  const data = codec.encodeMessage(0, "create_thin 7");
  const bytes = codec.encodeRequest({ name: "pool", flags: 0x80000002, targets: 3, cookie: 0x000f0000, data }, 400);
  assert.equal(bytes.length, 400);
  assert.deepEqual(
    [0, 4, 8, 12, 16, 20, 28, 32].map((at) => bytes.readUInt32LE(at)),
    [4, 0, 0, 400, 312, 3, 0x80000002, 0x000f0000],
  );
  assert.equal(bytes.toString("latin1", 48, 53), "pool\0");
  assert.equal(bytes.toString("latin1", 320, 334), "create_thin 7\0");
});

test("an answer is read as the kernel writes it", () => {
  const bytes = codec.encodeRequest({ name: "a", flags: codec.DM_ACTIVE_PRESENT_FLAG }, 320);
  bytes.writeUInt32LE(47, 4);
  bytes.writeInt32LE(2, 24);
  // 259:1048575 as huge_encode_dev has it.
  bytes.writeBigUInt64LE((0xfffffn & 0xffn) | (259n << 8n) | ((0xfffffn & ~0xffn) << 12n), 40);
  const reply = codec.decodeReply(bytes);
  assert.deepEqual(reply.version, [4, 47, 0]);
  assert.deepEqual([reply.major, reply.minor, reply.openCount, reply.name], [259, 0xfffff, 2, "a"]);
  assert.equal(reply.data.length, 8);
});

test("tables: what is decoded is what was encoded", () => {
  const text = [fc.stringMatching(/^[a-z-]{1,15}$/), fc.stringMatching(/^[ -~]{0,60}$/)] as const;
  const target = fc
    .tuple(fc.nat(), fc.nat(), ...text)
    .map(([start, length, type, parameters]) => ({ start, length, type, parameters }));
  fc.assert(
    fc.property(fc.array(target, { maxLength: 5 }), (targets) => {
      const data = codec.encodeTargets(targets);
      assert.equal(data.length % 8, 0);
      // The kernel counts `next` from the beginning of the data when it answers.
      for (let at = 0; at < data.length; ) {
        const next = at + data.readUInt32LE(at + 20);
        data.writeUInt32LE(next, at + 20);
        at = next;
      }
      assert.deepEqual(codec.decodeTargets({ data, targets: targets.length }), targets);
    }),
  );
});

test("lists of devices, of target types and of dependencies", () => {
  assert.deepEqual(codec.decodeDevices(Buffer.alloc(16)), []);
  const devices = Buffer.alloc(64);
  devices.writeBigUInt64LE(0xfd00n, 0);
  devices.writeUInt32LE(24, 8);
  devices.write("one", 12);
  devices.writeBigUInt64LE(0xfd01n, 24);
  devices.write("two", 36);
  assert.deepEqual(codec.decodeDevices(devices), [
    { name: "one", major: 253, minor: 0 },
    { name: "two", major: 253, minor: 1 },
  ]);
  const versions = Buffer.alloc(64);
  for (const [i, name] of ["thin-pool", "linear"].entries()) {
    const at = 32 * i;
    versions.writeUInt32LE(i === 0 ? 32 : 0, at);
    for (const [j, part] of [1, 22 + i, 0].entries()) versions.writeUInt32LE(part, at + 4 + 4 * j);
    versions.write(name, at + 16);
  }
  assert.deepEqual(
    codec.decodeVersions(versions),
    new Map([
      ["thin-pool", [1, 22, 0]],
      ["linear", [1, 23, 0]],
    ]),
  );
  const dependencies = Buffer.alloc(24);
  dependencies.writeUInt32LE(2, 0);
  dependencies.writeBigUInt64LE(0x700n, 8);
  dependencies.writeBigUInt64LE(0x701n, 16);
  assert.deepEqual(codec.decodeDependencies(dependencies), [
    { major: 7, minor: 0 },
    { major: 7, minor: 1 },
  ]);
});
