/**
 * Serves unions in this process, one mount after another. A thread of its own answers the kernel (./union-worker.ts); the
 * calling thread must not touch the mount by blocking calls before it has another process to serve it, which is why this is
 * what a process of its own does (src/cli/lamella-overlay.ts).
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { fromPlainError, type LamellaError } from "../../errors/lamella-error.ts";
import { workerUrl } from "../../fs/worker-pool.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import type { OverlayXattrPrefix } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { awakeMemory, isWorthSpinning } from "../keep-awake.ts";
import { mountFuse, unmountFuse } from "../mount.ts";
import { slowCallRing } from "../slow-calls.ts";
import type { MountRequest } from "./mount-options.ts";
import { spoolLayers } from "./spool-tar.ts";
import type { UnionOptions } from "./union.ts";
import type { UnionNews, UnionOrder } from "./union-worker.ts";

const EPERM = 1;
const EINVAL = 22;
const CAP_SYS_ADMIN = 1n << 21n;

export interface MountedUnion {
  /** Absolute. */
  readonly target: ByteString;
  /** Settles when the mount is gone. */
  readonly ended: Promise<void>;
  /** Takes the mount away; what still uses it keeps it alive. */
  unmount(): void;
}

export class UnionHost {
  readonly #ring = slowCallRing();
  /** Where a thread is to spin while requests come. */
  readonly #memory = isWorthSpinning() ? awakeMemory() : undefined;
  readonly #server = new Worker(workerUrl(import.meta.url, "./union-worker"), {
    workerData: { ring: this.#ring, memory: this.#memory },
  });
  readonly #onError: (error: LamellaError) => void;
  /** Rejects when a thread dies. */
  readonly #broken: Promise<never>;
  #break!: (error: Error) => void;
  #settled: Promise<void> | undefined;
  #hear: (news: Exclude<UnionNews, { readonly type: "problem" }>) => void = () => undefined;

  /** Starts the thread. `onError` hears of what was answered with EIO because it should not have happened. */
  constructor(onError: (error: LamellaError) => void) {
    this.#onError = onError;
    this.#broken = new Promise((_, fail) => {
      this.#break = fail;
    });
    this.#broken.catch(() => undefined);
    this.#server.once("error", this.#break);
    this.#server.on("message", (news: UnionNews) => {
      if (news.type === "problem") this.#onError(fromPlainError(news.error));
      else this.#hear(news);
    });
  }

  /**
   * Starts the threads that a mount can do without for a moment: what the first is handed meanwhile waits. Settles when all
   * threads run; until then they may look for their code beneath the working directory.
   */
  settle(): Promise<void> {
    const slowCalls = (): Promise<void> =>
      this.#start(workerUrl(import.meta.url, "../slow-calls-worker"), { ring: this.#ring });
    const spinning = async (): Promise<void> => {
      if (this.#memory !== undefined)
        await this.#start(workerUrl(import.meta.url, "../keep-awake-worker"), { memory: this.#memory });
    };
    this.#settled ??= slowCalls().then(spinning);
    return this.#settled;
  }

  /** Starts one more thread; settles when it says that it is there. */
  #start(url: URL, workerData: unknown): Promise<void> {
    return new Promise((settle) => {
      const thread = new Worker(url, { workerData });
      thread.once("message", () => settle());
      thread.once("error", this.#break);
    });
  }

  /** Mounts a union at the directory `target`; relative paths begin at the working directory. Errors: as the layers have them. */
  async mount(request: MountRequest, target: ByteString, how: { readonly source: string }): Promise<MountedUnion> {
    const options = unionOptions(request);
    const { paths, spools } = await spoolLayers(options.lowers, options.work);
    const opened = await this.#ask({ options: { ...options, lowers: paths } });
    for (const spool of spools) spool[Symbol.dispose]();
    if (opened.type === "opened" && opened.error !== undefined) throw fromPlainError(opened.error);
    const at = absolute(target);
    const { readOnly, allowOther, flags } = request;
    const mount = { target: at, source: how.source, subtype: "lamella-overlay", allowOther, readOnly, flags };
    let device: number;
    try {
      device = mountFuse(mount).release();
    } catch (error) {
      this.#tell({ device: undefined });
      throw error;
    }
    const ended = this.#ask({ device }).then(() => undefined);
    return { target: at, ended, unmount: () => unmountFuse(at) };
  }

  #tell(order: UnionOrder): void {
    this.#server.postMessage(order);
  }

  #ask(order: UnionOrder): Promise<Exclude<UnionNews, { readonly type: "problem" }>> {
    const heard = new Promise<Exclude<UnionNews, { readonly type: "problem" }>>((settle) => {
      this.#hear = settle;
    });
    this.#tell(order);
    return Promise.race([heard, this.#broken]);
  }
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
