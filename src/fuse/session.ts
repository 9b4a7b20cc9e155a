/**
 * A session: the kernel asks through a descriptor of /dev/fuse, and a file system answers, one request after another on the
 * calling thread, from INIT until the mount is gone. Each request is one read, each reply one write.
 *
 * A request that was given up meanwhile (its process was killed) takes no reply; that is no error. INTERRUPT is not needed:
 * when it is read, the request it speaks of has been answered.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import * as raw from "../sys/raw.ts";
import { Companion } from "./companion.ts";
import { type FileSystem, type Kernel, LATER, STORE_MAX } from "./file-system.ts";
import type { KeepAwake } from "./keep-awake.ts";
import { MAX_DATA, negotiate } from "./negotiate.ts";
import { forget, operations } from "./operations.ts";
import {
  FUSE_DEV_IOC_BACKING_CLOSE,
  FUSE_DEV_IOC_BACKING_OPEN,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_NOTIFY_STORE,
  OUT_HEADER,
  op,
} from "./protocol.ts";
import { Reply } from "./reply.ts";
import { Request } from "./request.ts";
import type { SlowCall, SlowCalls } from "./slow-calls.ts";

const ENOENT = 2;
const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const ENODEV = 19;
const ENOSYS = 38;
const ECONNABORTED = 103;

const CAP_FSETID = 1n << 4n;

/** Of the thread that serves; nothing else changes them. */
let ownCapabilities: ReturnType<typeof raw.capget> | undefined;

/** The longest request: a WRITE with its header, its structure, and MAX_DATA. */
const LONGEST_REQUEST = MAX_DATA + 4096;

export interface SessionOptions {
  /** Let files be passed through where the kernel can. */
  readonly passthrough?: boolean;
  /** Makes the calls that may wait. */
  readonly slowCalls?: SlowCalls;
  /** Is told of each request. */
  readonly keepAwake?: KeepAwake | undefined;
  /** Hears of what a file system threw that is no system call's errno. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Answers the kernel until the file system is unmounted. `fd`: of /dev/fuse, mounted; stays the caller's.
 * Errors: SyscallError when the device cannot be read.
 */
export function serve(fd: number, fileSystem: FileSystem, options: SessionOptions = {}): void {
  const request = new Request(LONGEST_REQUEST);
  const reply = new Reply(MAX_DATA, fileSystem);
  const companion = new Companion();
  for (;;) {
    const n = raw.read(fd, request.buffer);
    if (n === -ENODEV || n === -ECONNABORTED) return;
    if (n === -ENOENT || n === -EINTR || n === -EAGAIN) continue;
    if (n < 0) throw new SyscallError("read", -n, "/dev/fuse");
    request.length = n;
    companion.asked(request.pid);
    options.keepAwake?.requested();
    const opcode = request.opcode;
    if (opcode === op.FORGET || opcode === op.BATCH_FORGET) {
      forget(fileSystem, request);
      continue;
    }
    if (opcode === op.INTERRUPT) continue;
    const result = opcode === op.INIT ? begin(fd, fileSystem, request, reply, options) : answer();
    if (result === LATER) continue;
    send(fd, reply, reply.head(result, request.uniqueLow, request.uniqueHigh));
    if (opcode === op.DESTROY) return;
  }

  function answer(): number {
    const operation = operations[request.opcode];
    if (operation === undefined) return request.opcode === op.DESTROY ? 0 : -ENOSYS;
    try {
      return operation(fileSystem, request, reply);
    } catch (error) {
      if (error instanceof SyscallError) return -error.errno;
      options.onError?.(error);
      return -EIO;
    }
  }
}

function begin(fd: number, fs: FileSystem, request: Request, reply: Reply, options: SessionOptions): number {
  const { length, begun, passthrough } = negotiate(request, reply, { passthrough: options.passthrough ?? false });
  const later = (call: SlowCall): typeof LATER | undefined =>
    options.slowCalls?.begin(call, request.uniqueLow, request.uniqueHigh) ? LATER : undefined;
  if (begun) fs.mounted?.(kernelOf(fd, passthrough, later));
  return length;
}

function send(fd: number, reply: Reply, length: number): void {
  for (;;) {
    const n = raw.write(fd, reply.buffer, length);
    if (n === -EINTR || n === -EAGAIN) continue;
    // ENOENT: nobody waits for it any more. ENODEV: the next read tells.
    if (n >= 0 || n === -ENOENT || n === -ENODEV) return;
    throw new SyscallError("write", -n, "/dev/fuse");
  }
}

function kernelOf(fuseFd: number, passthrough: boolean, later: Kernel["later"]): Kernel {
  const backing = Buffer.alloc(16);
  // fuse_out_header, fuse_notify_inval_inode_out: the node, and an offset below 0, as no data is meant.
  const notice = Buffer.alloc(OUT_HEADER + 24);
  notice.writeUInt32LE(notice.length, 0);
  notice.writeInt32LE(FUSE_NOTIFY_INVAL_INODE, 4);
  notice.writeBigInt64LE(-1n, OUT_HEADER + 8);
  const stored = Buffer.alloc(OUT_HEADER + 24 + STORE_MAX);
  const content = stored.subarray(OUT_HEADER + 24);
  return {
    passthrough,
    later,
    attributesChanged: (node) => {
      notice.writeBigUInt64LE(BigInt(node), OUT_HEADER);
      raw.write(fuseFd, notice);
    },
    openBacking: (fd) => {
      backing.fill(0);
      backing.writeInt32LE(fd, 0);
      return withoutCapability(CAP_FSETID, () => raw.ioctl(fuseFd, FUSE_DEV_IOC_BACKING_OPEN, backing));
    },
    closeBacking: (id) => {
      backing.writeUInt32LE(id, 0);
      raw.ioctl(fuseFd, FUSE_DEV_IOC_BACKING_CLOSE, backing);
    },
    store: (node, file) => {
      const length = raw.pread64(file, content, STORE_MAX, 0);
      if (length <= 0) return;
      // fuse_notify_store_out. What is not taken will be asked for.
      stored.writeUInt32LE(OUT_HEADER + 24 + length, 0);
      stored.writeInt32LE(FUSE_NOTIFY_STORE, 4);
      stored.writeBigUInt64LE(BigInt(node), OUT_HEADER);
      stored.writeUInt32LE(length, OUT_HEADER + 16);
      raw.write(fuseFd, stored, OUT_HEADER + 24 + length);
    },
  };
}

/**
 * Passed writes go to the file below with the capabilities that the thread had when it registered the file. CAP_FSETID would
 * let all who write leave set-id bits as they are.
 */
function withoutCapability(capability: bigint, use: () => number): number {
  ownCapabilities ??= raw.capget();
  const sets = ownCapabilities;
  if (typeof sets === "number") return sets;
  const lowered = raw.capset({ ...sets, effective: sets.effective & ~capability });
  if (lowered < 0) return lowered;
  const result = use();
  raw.capset(sets);
  return result;
}
