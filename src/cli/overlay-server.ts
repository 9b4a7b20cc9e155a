/**
 * The process that serves a mount of lamella-overlay and stays until it is gone: one for its command line, or, for the driver
 * fuse-overlay, one mount after another, since starting Node.js takes much longer than a mount.
 *
 * In this case the driver asks and hears on a socket, descriptor 3, a line of JSON each:
 *
 *     → {"options": "lowerdir=…", "target": "/…"}     mount this; relative paths begin at the working directory
 *     ← {"mounted": true}                             it can be used
 *     ← {"error": {…}}                                it could not be mounted, and the next may be asked for
 *     ← {"idle": true}                                the mount is gone, and the next may be asked for
 *
 * Whoever started the process ends it by closing the socket, which also his death does: at once when nothing is mounted, else
 * when the mount has gone. After a minute without a mount it ends by itself.
 *
 * A signal unmounts. So does a mount namespace that nobody is in any more but its servers: they would keep it, and it them.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { toPlainError } from "../errors/lamella-error.ts";
import { isLeftNamespace } from "../fs/left-namespace.ts";
import { type MountRequest, parseMountOptions } from "../fuse/union/mount-options.ts";
import { type MountedUnion, UnionHost } from "../fuse/union/mount-union.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { UMOUNT_NOFOLLOW } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { InnerErrors } from "./inner-errors.ts";
import { mayMount } from "./privileges.ts";

/** A pipe or a socket to the process that started this one. */
const CALLER = 3;
const STANDARD_ERROR = 2;
/** What still uses the mount after a signal keeps it this long. */
const GRACE_MS = 2000;
const IDLE_MS = 60_000;
/** The namespace is looked at so often, and has to be found left twice: a process may be on its way from one to another. */
const LOOK_MS = 5000;

export interface OneMount {
  readonly source: string;
  readonly target: string;
  /** As of `-o`. */
  readonly options: string;
  /** That it is mounted is said to the process that waits for it, instead of being known from this process's end. */
  readonly tells: boolean;
}

class Server {
  readonly errors = new InnerErrors(`lamella-overlay[${process.pid}]`);
  readonly host = new UnionHost(this.errors.say);
  mounted: MountedUnion | undefined;
  /** It is to end with what is mounted. */
  isEnding = false;
  #timesLeft = 0;

  constructor() {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => this.#signaled());
    // Without privileges it is the namespace of all, and others' processes cannot be looked at.
    if (mayMount()) setInterval(() => this.#look(), LOOK_MS).unref();
  }

  async mount(request: MountRequest, target: string, source: string): Promise<MountedUnion> {
    // Root's mounts are for all users, as the kernel's own are; others have to be allowed to.
    const allowOther = request.allowOther || process.getuid?.() === 0;
    this.mounted = await this.host.mount({ ...request, allowOther }, bytesOfText(target), { source });
    return this.mounted;
  }

  /** Nobody reads standard error any more. */
  detach(log?: string): void {
    this.errors.detach(log);
    closeSync(STANDARD_ERROR);
    // The lowest free number is given: whoever reads our standard error does not wait for the mount's end.
    openSync("/dev/null", "w");
  }

  #signaled(): void {
    if (this.mounted === undefined) raw.exit_group(0);
    this.isEnding = true;
    this.mounted.unmount();
    // A thread that waits for the kernel cannot be ended otherwise; users of the mount then get ENOTCONN.
    setTimeout(() => process.kill(process.pid, "SIGKILL"), GRACE_MS).unref();
  }

  #look(): void {
    const script = process.argv[1];
    if (this.mounted === undefined || script === undefined) return;
    this.#timesLeft = isLeftNamespace(script) ? this.#timesLeft + 1 : 0;
    // Not by force: what is in use after all stays.
    if (this.#timesLeft > 1) raw.umount2(this.mounted.target, UMOUNT_NOFOLLOW);
  }
}

/** Mounts and serves; the process ends when the mount is gone. */
export async function serveOne({ source, target, options, tells }: OneMount): Promise<never> {
  const request = parseMountOptions(options);
  const log = request.log === undefined ? undefined : resolve(request.log);
  const server = new Server();
  const union = await server.mount(request, target, source);
  void server.host.settle().then(() => process.chdir("/"));
  if (tells) {
    server.detach(log);
    writeSync(CALLER, "0");
    closeSync(CALLER);
  }
  await union.ended;
  return raw.exit_group(0);
}

/** Mounts and serves what it is asked for; the process ends when nobody can ask any more, or nobody has for `idleMs`. */
export async function serveMany(idleMs = IDLE_MS): Promise<never> {
  const server = new Server();
  void server.host.settle().then(() => server.detach());
  const socket = new Socket({ fd: CALLER });
  socket.on("error", () => undefined);
  const say = (what: object): void => void socket.write(`${JSON.stringify(what)}\n`);
  const lines = createInterface({ input: socket });
  // The loop below would not learn that the socket is destroyed, and Node.js's own way to the end waits for threads that wait.
  const stop = (): void => lines.close();
  let timer = setTimeout(stop, idleMs);
  const idle = (): void => {
    server.mounted = undefined;
    if (server.isEnding) stop();
    timer = setTimeout(stop, idleMs);
  };
  let serving: Promise<void> = Promise.resolve();
  for await (const line of lines) {
    clearTimeout(timer);
    const { options, target } = JSON.parse(line) as { readonly options: string; readonly target: string };
    try {
      const union = await server.mount(parseMountOptions(options), target, "lamella");
      say({ mounted: true });
      serving = union.ended.then(() => {
        idle();
        say({ idle: true });
      });
    } catch (error) {
      idle();
      say({ error: toPlainError(error) });
    }
  }
  await serving;
  return raw.exit_group(0);
}
