/**
 * Mounts a union for as long as this process lives. A thread of its own serves it (./union-worker.ts); the calling thread
 * must not touch the mount by blocking calls before it has another process to serve it, which is why this is what a process
 * of its own does (src/cli/lamella-overlay.ts).
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { fromPlainError, type LamellaError, type PlainError } from "../../errors/lamella-error.ts";
import { workerUrl } from "../../fs/worker-pool.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import type { OverlayXattrPrefix } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { mountFuse, unmountFuse } from "../mount.ts";
import { slowCallRing } from "../slow-calls.ts";
import type { MountRequest } from "./mount-options.ts";
import type { UnionOptions } from "./union.ts";

const EPERM = 1;
const EINVAL = 22;
const CAP_SYS_ADMIN = 1n << 21n;

export interface MountedUnion {
  /** Settles when the mount is gone and the thread has ended. */
  readonly ended: Promise<void>;
  /** Settles when all threads run; until then they may look for their code beneath the working directory. */
  readonly settled: Promise<void>;
  /** Takes the mount away; what still uses it keeps it alive. */
  unmount(): void;
}

/**
 * Mounts a union at the directory `target`; relative paths begin at the working directory. `onError` hears of what was
 * answered with EIO because it should not have happened. Errors: as the layers have them.
 */
export async function mountUnion(
  request: MountRequest,
  target: ByteString,
  how: { readonly source: string; readonly onError: (error: LamellaError) => void },
): Promise<MountedUnion> {
  const options = unionOptions(request);
  const ring = slowCallRing();
  const worker = new Worker(workerUrl(import.meta.url, "./union-worker"), { workerData: { options, ring } });
  const ended = new Promise<void>((settle, fail) => {
    worker.once("error", fail);
    worker.once("exit", () => settle());
  });
  const opened = await new Promise<{ readonly error?: PlainError }>((settle, fail) => {
    worker.once("message", settle);
    ended.catch(fail);
  });
  const at = absolute(target);
  const { readOnly, allowOther, flags } = request;
  let device: number;
  try {
    if (opened.error !== undefined) throw fromPlainError(opened.error);
    worker.on("message", (error: PlainError) => how.onError(fromPlainError(error)));
    const mount = { target: at, source: how.source, subtype: "lamella-overlay", allowOther, readOnly, flags };
    // The threads have it from here on; it is closed when the process ends.
    device = mountFuse(mount).release();
    worker.postMessage(device);
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  // It starts when the mount can be used already: what it is handed meanwhile waits in the ring.
  const second = new Worker(workerUrl(import.meta.url, "../slow-calls-worker"), { workerData: { ring, device } });
  const settled = new Promise<void>((settle) => void second.once("message", settle));
  const broken = new Promise<void>((_, fail) => void second.once("error", fail));
  const over = ended.finally(() => second.terminate());
  return { ended: Promise.race([over, broken]), settled, unmount: () => unmountFuse(at) };
}

function absolute(path: ByteString): ByteString {
  return bytesOfText(resolve(textOfBytes(path)));
}

function unionOptions(request: MountRequest): UnionOptions {
  const { features, flags } = request;
  const work = request.work === undefined ? undefined : absolute(request.work);
  const prefix = prefixFor(request.userxattr, work);
  return {
    lowers: request.lowers.map(absolute),
    upper: request.upper === undefined ? undefined : absolute(request.upper),
    work,
    prefix,
    accessTimes: {
      files: flags.includes("noatime") ? "noatime" : flags.includes("strictatime") ? "strictatime" : "relatime",
      directories: !flags.includes("nodiratime"),
    },
    ...features,
  };
}

/** `trusted.` attributes are root's alone: where they may not be set, those of users serve. */
function prefixFor(userxattr: boolean, work: ByteString | undefined): OverlayXattrPrefix {
  if (userxattr) return "user.overlay.";
  if (work === undefined) return canReadTrusted() ? "trusted.overlay." : "user.overlay.";
  const probe = "trusted.overlay.probe";
  const r = raw.lsetxattrat(C.AT_FDCWD, work, probe, Buffer.from("y"));
  if (r === -EPERM) return "user.overlay.";
  if (r >= 0) sys.lremovexattrat(C.AT_FDCWD, work, probe);
  return r === -EINVAL ? "user.overlay." : "trusted.overlay.";
}

/** The kernel shows `trusted.` attributes to CAP_SYS_ADMIN of the first user namespace, whose map holds all users. */
function canReadTrusted(): boolean {
  const capabilities = raw.capget();
  const isAdmin = typeof capabilities !== "number" && (capabilities.effective & CAP_SYS_ADMIN) !== 0n;
  return isAdmin && /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
}
