import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import { crc32c } from "../lib/crc32c.ts";
import { type SendCommand, SendStreamReader } from "./btrfs-stream.ts";

/** Numbers of attributes. */
const A = { xattrName: 13, path: 15, pathTo: 16, pathLink: 17, data: 19, clonePath: 22 } as const;

function streamHeader(version = 1): Buffer {
  const header = Buffer.alloc(17);
  header.write("btrfs-stream\0", "latin1");
  header.writeUInt32LE(version, 13);
  return header;
}

/** One command with a right checksum. */
function sendCommand(number: number, parts: readonly (readonly [attribute: number, value: string])[] = []): Buffer {
  const body = Buffer.concat(
    parts.map(([attribute, value]) => {
      const head = Buffer.alloc(4);
      head.writeUInt16LE(attribute, 0);
      head.writeUInt16LE(value.length, 2);
      return Buffer.concat([head, Buffer.from(value, "latin1")]);
    }),
  );
  const head = Buffer.alloc(10);
  head.writeUInt32LE(body.length, 0);
  head.writeUInt16LE(number, 4);
  return withChecksum(Buffer.concat([head, body]));
}

/** Gives a command the checksum it needs. */
function withChecksum(command: Buffer): Buffer {
  command.writeUInt32LE(0, 6);
  command.writeUInt32LE(crc32c(0, command), 6);
  return command;
}

const end = sendCommand(21);

function read(...chunks: Buffer[]): SendCommand[] {
  const commands: SendCommand[] = [];
  const reader = new SendStreamReader((command) => commands.push(command));
  for (const chunk of chunks) reader.push(chunk);
  reader.end();
  return commands;
}

function refuses(what: RegExp, ...chunks: Buffer[]): void {
  assert.throws(
    () => read(...chunks),
    (error) => isLamellaError(error, "data_loss") && error.code === "SEND_STREAM" && what.test(error.message),
  );
}

const stream = Buffer.concat([
  streamHeader(),
  sendCommand(2, [[A.path, "layer"]]),
  sendCommand(3, [[A.path, "o257-7-0"]]),
  sendCommand(9, [
    [A.path, "o257-7-0"],
    [A.pathTo, "dir/\xff"],
  ]),
  sendCommand(10, [
    [A.path, "other"],
    [A.pathLink, "dir/\xff"],
  ]),
  sendCommand(11, [[A.path, "gone"]]),
  sendCommand(12, [[A.path, "dir2"]]),
  sendCommand(13, [
    [A.path, "dir"],
    [A.xattrName, "user.x"],
  ]),
  sendCommand(16, [
    [A.path, "to"],
    [A.clonePath, "from"],
  ]),
  sendCommand(20, [[A.path, ""]]),
  end,
]);
const commands: SendCommand[] = [
  { kind: "make", path: "o257-7-0" },
  { kind: "rename", path: "o257-7-0", to: "dir/\xff" },
  { kind: "link", path: "other", target: "dir/\xff" },
  { kind: "remove", path: "gone" },
  { kind: "remove", path: "dir2" },
  { kind: "change", path: "dir" },
  { kind: "change", path: "to" },
  { kind: "change", path: "" },
];

describe("send streams", () => {
  it("are read for the names that commands touch", () => {
    assert.deepEqual(read(stream), commands);
  });

  it("are read in pieces of any size", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), stream.length];
        const reused = Buffer.alloc(stream.length);
        const seen: SendCommand[] = [];
        const reader = new SendStreamReader((command) => seen.push(command));
        for (let i = 1; i < at.length; i++) {
          const length = stream.copy(reused, 0, at[i - 1], at[i]);
          reader.push(reused.subarray(0, length));
        }
        reader.end();
        assert.deepEqual(seen, commands);
      }),
    );
  });

  it("of version 2 may have data without a length, and its commands", () => {
    const write = Buffer.concat([sendCommand(15, [[A.path, "file"]]), Buffer.from([A.data, 0, 1, 2, 3])]);
    write.writeUInt32LE(write.length - 10, 0);
    const flags = sendCommand(24, [[A.path, "flags"]]);
    const path = (name: string): SendCommand => ({ kind: "change", path: name });
    assert.deepEqual(read(streamHeader(2), withChecksum(write), flags, end), [path("file"), path("flags")]);
    refuses(/cut off/, streamHeader(1), withChecksum(write), end);
    refuses(/command 24 is not known/, streamHeader(1), flags, end);
  });

  it("that are broken are refused", () => {
    refuses(/does not begin/, Buffer.from("not a stream at all"), end);
    refuses(/version 3/, streamHeader(3), end);
    refuses(/command 26 is not known/, streamHeader(2), sendCommand(26, [[A.path, "x"]]), end);
    refuses(/command 0 is not known/, streamHeader(), sendCommand(0), end);
    refuses(/command 20 has no path/, streamHeader(), sendCommand(20), end);
    refuses(/command 9 has no path/, streamHeader(), sendCommand(9, [[A.path, "x"]]), end);
    refuses(/attribute 99/, streamHeader(), sendCommand(20, [[99, "x"]]), end);
    refuses(/goes on after its end/, streamHeader(), end, end);
    const long = Buffer.from(end);
    long.writeUInt32LE(0xfffffff0, 0);
    refuses(/a command of 4294967280 bytes/, streamHeader(), long);
    const cut = sendCommand(20, [[A.path, "name"]]);
    cut.writeUInt16LE(9, 12);
    refuses(/an attribute is cut off/, streamHeader(), withChecksum(cut), end);
  });

  it("that are cut off anywhere are refused", () => {
    for (let length = 0; length < stream.length; length++) refuses(/before its end/, stream.subarray(0, length));
  });

  it("with any byte of a command changed are refused", () => {
    for (let at = 17; at < stream.length; at++) {
      const changed = Buffer.from(stream);
      changed[at] = (changed[at] ?? 0) ^ 0x20;
      refuses(/./, changed);
    }
  });
});
