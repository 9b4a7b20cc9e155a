/**
 * Random input and output on one file against a model in memory: reads, writes, truncations, holes, shared mappings written
 * through, all at random offsets, as the well-known exercisers of file systems do. Node.js maps no files, so a small program
 * in Python does (`mmap`), told what to do line by line.
 */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";

const LONGEST = 300_000;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Maps the file anew for each line, `OFFSET HEX` to write or `OFFSET LENGTH` to read, and answers a line. */
const mapper = `
import mmap, os, sys
for line in sys.stdin:
    path, what, offset, value = line.split()
    offset = int(offset)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as memory:
        if what == "write":
            data = bytes.fromhex(value)
            memory[offset:offset + len(data)] = data
            memory.flush()
            print("done", flush=True)
        else:
            print(memory[offset:offset + int(value)].hex() or "-", flush=True)
    os.close(fd)
`;

class Mapper implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null> = spawn("python3", ["-c", mapper], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  readonly #lines: Interface = createInterface({ input: this.#child.stdout });

  async #ask(line: string): Promise<string> {
    const answer = once(this.#lines, "line");
    this.#child.stdin.write(`${line}\n`);
    return String((await answer)[0]);
  }

  async write(path: string, offset: number, data: Buffer): Promise<void> {
    assert.equal(await this.#ask(`${path} write ${offset} ${data.toString("hex")}`), "done");
  }

  async read(path: string, offset: number, length: number): Promise<Buffer> {
    const answer = await this.#ask(`${path} read ${offset} ${length}`);
    return Buffer.from(answer === "-" ? "" : answer, "hex");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.stdin.end();
    await ended;
  }
}

/** A generator of numbers from a seed (mulberry32); `below(n)` is one of 0..n-1. */
function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/**
 * Does `count` things to the existing file at `path`, whose content is `model` to begin with, and compares whatever is read.
 * Other descriptors, opened now and then for reading, must see the same. What the file is in the end.
 */
export async function exerciseFile(
  path: string,
  initial: Buffer,
  how: { seed: number; count: number },
): Promise<Buffer> {
  const next = numbers(how.seed);
  let model = Buffer.from(initial);
  await using mapped = new Mapper();
  let file = new sys.OwnedFd(sys.openat(C.AT_FDCWD, path, C.O_RDONLY));
  let writable = false;
  const done: string[] = [];
  const told = (): string => `seed ${how.seed}, after: ${done.slice(-12).join("; ")}`;
  const mustBeWritable = (): number => {
    if (writable) return file.fd;
    file[Symbol.dispose]();
    file = new sys.OwnedFd(sys.openat(C.AT_FDCWD, path, C.O_RDWR));
    writable = true;
    return file.fd;
  };
  const resize = (size: number): void => {
    const grown = Buffer.alloc(size);
    model.copy(grown, 0, 0, Math.min(size, model.length));
    model = grown;
  };
  const put = (offset: number, data: Buffer): void => {
    if (offset + data.length > model.length) resize(offset + data.length);
    data.copy(model, offset);
  };
  for (let i = 0; i < how.count; i++) {
    const offset = next(LONGEST);
    const length = 1 + next(1 + next(70_000));
    const data = Buffer.alloc(length, `${how.seed}:${i};`);
    const inside = Math.min(offset, Math.max(0, model.length - 1));
    const kind = next(10);
    done.push(`${kind} ${offset}+${length}`);
    if (kind < 3) {
      const read = Buffer.alloc(length);
      const n = raw.pread64(file.fd, read, length, offset);
      assert.deepEqual(read.subarray(0, Math.max(0, n)), model.subarray(offset, offset + length), told());
    } else if (kind < 6) {
      for (let at = 0; at < length; ) {
        const n = raw.pwrite64(mustBeWritable(), data.subarray(at), length - at, offset + at);
        assert.ok(n > 0, `${told()}: errno ${-n}`);
        at += n;
      }
      put(offset, data);
    } else if (kind === 6) {
      sys.ftruncate(mustBeWritable(), offset);
      resize(offset);
    } else if (kind === 7) {
      const r = raw.fallocate(mustBeWritable(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
      assert.equal(r, 0, told());
      model.fill(0, Math.min(offset, model.length), Math.min(offset + length, model.length));
    } else if (model.length === 0) {
      // An empty file cannot be mapped.
    } else if (kind === 8) {
      const some = data.subarray(0, Math.min(length, model.length - inside));
      await mapped.write(path, inside, some);
      put(inside, some);
    } else {
      const expected = model.subarray(inside, Math.min(inside + length, model.length));
      assert.ok((await mapped.read(path, inside, expected.length)).equals(expected), told());
    }
    assert.equal(sys.fstat(file.fd).size, model.length, told());
    if (next(20) === 0) {
      file[Symbol.dispose]();
      file = new sys.OwnedFd(sys.openat(C.AT_FDCWD, path, C.O_RDONLY));
      writable = false;
    }
  }
  file[Symbol.dispose]();
  return model;
}
