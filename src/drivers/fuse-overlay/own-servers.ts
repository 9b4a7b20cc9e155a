/**
 * Our own union file system as the driver's mounter: processes of `lamella-overlay --serves` (src/cli/overlay-server.ts has the
 * protocol), each of which serves one mount after another.
 *
 *     starting ── mounted ── ending ── idle ── mounted …
 *                    │                   └── gone: after a minute, at `rest()`, or with this process
 *                    └── kept: this process is gone, or `rest()` was called; the server goes when it is unmounted
 *
 * The first mount starts a process, which takes a tenth of a second; later ones take one that is idle, a few milliseconds.
 * Nothing is started ahead of the first mount: most commands mount nothing. A server says on its socket when its mount is
 * gone, whoever unmounted it; until the next mount nobody listens.
 *
 * Mounting is synchronous (it happens while nobody else may begin to use the layer), so the socket is read by blocking calls.
 * The server is a process of its own and asks nothing of this one, which therefore may wait for it. It mounts in the mount
 * namespace in which it was started, and is not asked by whoever is in another by now.
 *
 * What a server says before it is ready, Node.js's own complaints included, goes to a file in memory, and from there into the
 * error. A server that is found to have gone, as it may have at any time, is replaced by a new one, once.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { SyscallError } from "../../errors/syscall-error.ts";
import { systemFolders } from "../../fs/find-program.ts";
import { isMountPoint } from "../../fs/mounts.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { mountNamespace } from "../layer-uses.ts";
import { couldNotMount, type FuseLayers, type LayerMounter, optionsOf, TIMEOUT_MS } from "./layer-mounter.ts";
import { ownCommand } from "./own-command.ts";

const EINTR = 4;
/** One that has been unmounted is waited for so long before another is started. */
const ENDING_MS = 100;
/** A server without a mount that has not ended by then is left to itself. */
const REST_MS = 5000;

/** What a server says; see src/cli/overlay-server.ts. */
interface News {
  readonly mounted?: boolean;
  readonly idle?: boolean;
  readonly error?: { readonly message: string; readonly hint?: string };
}

interface Server {
  readonly process: ChildProcess;
  readonly socket: sys.OwnedFd;
  /** Its standard error. */
  readonly complaints: sys.OwnedFd;
  readonly namespace: number;
  /** What it has mounted, as far as it has said. */
  target: ByteString | undefined;
  /** It was waited for in vain: somebody still uses what was unmounted. */
  lingers: boolean;
  /** The beginning of a line. */
  heard: string;
  /** Why it does not answer. */
  lastWords: string;
}

export class OwnServers implements LayerMounter {
  readonly path: string;
  readonly redirects = true;
  readonly #home: ByteString;
  readonly #command: readonly [string, ...string[]];
  readonly #options: readonly string[];
  readonly #servers = new Set<Server>();

  /** Relative paths of layers begin at the home. */
  constructor(home: ByteString, { userNamespace }: { readonly userNamespace: boolean }) {
    this.#home = home;
    this.#command = ownCommand();
    this.path = this.#command.at(-1) ?? "";
    this.#options = ["redirect_dir=on", "metacopy=on", "xattr_permissions=0", ...(userNamespace ? ["userxattr"] : [])];
  }

  mount(layers: FuseLayers, target: ByteString): void {
    const marks = layers.fileMarks ? ["marks=any"] : [];
    const request = { options: optionsOf(layers, [...this.#options, ...marks]), target: textOfBytes(target) };
    const idle = this.#idleServer();
    const answer = idle && this.#ask(idle, request);
    if (idle !== undefined && answer !== undefined) this.#accept(idle, target, answer);
    else {
      const server = this.#start();
      this.#accept(server, target, this.#ask(server, request) ?? { error: { message: server.lastWords } });
    }
  }

  #accept(server: Server, target: ByteString, { error }: News): void {
    if (error !== undefined)
      throw couldNotMount(
        this.path,
        target,
        error.hint === undefined ? error.message : `${error.message} (${error.hint})`,
      );
    server.target = target;
    server.lingers = false;
  }

  /** One that has nothing mounted any more, in this mount namespace. */
  #idleServer(): Server | undefined {
    const namespace = mountNamespace();
    for (const server of [...this.#servers]) this.#hear(server, 0);
    const ours = [...this.#servers].filter((server) => server.namespace === namespace);
    const idle = ours.find(({ target }) => target === undefined);
    if (idle !== undefined) return idle;
    const ending = ours.find(({ target, lingers }) => target !== undefined && !lingers && !isMountPoint(target));
    if (ending === undefined) return undefined;
    this.#hear(ending, ENDING_MS);
    ending.lingers = ending.target !== undefined;
    return ending.lingers || !this.#servers.has(ending) ? undefined : ending;
  }

  /** Takes note of what a server with a mount has to say. */
  #hear(server: Server, timeoutMs: number): void {
    if (server.target === undefined || raw.waitReadable(server.socket.fd, timeoutMs) <= 0) return;
    if (this.#read(server)?.idle) server.target = undefined;
  }

  /** Its answer; undefined when it has gone, or says nothing for too long. */
  #ask(server: Server, request: object): News | undefined {
    const bytes = Buffer.from(`${JSON.stringify(request)}\n`);
    for (let sent = 0; sent < bytes.length; ) {
      const n = raw.write(server.socket.fd, bytes.subarray(sent));
      if (n < 0 && n !== -EINTR) return this.#lose(server);
      sent += Math.max(0, n);
    }
    return this.#read(server);
  }

  /** The next line. */
  #read(server: Server): News | undefined {
    const piece = Buffer.allocUnsafe(4096);
    for (;;) {
      const end = server.heard.indexOf("\n");
      if (end >= 0) {
        const line = server.heard.slice(0, end);
        server.heard = server.heard.slice(end + 1);
        return JSON.parse(line) as News;
      }
      const ready = raw.waitReadable(server.socket.fd, TIMEOUT_MS);
      if (ready === -EINTR) continue;
      const n = ready > 0 ? raw.read(server.socket.fd, piece) : 0;
      if (n === -EINTR) continue;
      if (n <= 0) return this.#lose(server);
      server.heard += piece.toString("utf8", 0, n);
    }
  }

  #start(): Server {
    const pair = raw.socketpair();
    if (typeof pair === "number") throw new SyscallError("socketpair", -pair);
    const socket = new sys.OwnedFd(pair[0]);
    using theirs = new sys.OwnedFd(pair[1]);
    const memory = raw.memfd_create("lamella-overlay");
    if (memory < 0) throw new SyscallError("memfd_create", -memory);
    const complaints = new sys.OwnedFd(memory);
    const [file, ...words] = this.#command;
    const process = spawn(file, [...words, "--serves"], {
      cwd: textOfBytes(this.#home),
      env: { PATH: systemFolders.join(":") },
      // Signals to this process's group are not meant for it.
      detached: true,
      stdio: ["ignore", "ignore", complaints.fd, theirs.fd],
    });
    process.on("error", () => undefined);
    process.unref();
    const server: Server = {
      process,
      socket,
      complaints,
      namespace: mountNamespace(),
      target: undefined,
      lingers: false,
      heard: "",
      lastWords: "",
    };
    this.#servers.add(server);
    return server;
  }

  /** Gives one up that does not answer. */
  #lose(server: Server): undefined {
    const piece = Buffer.alloc(4096);
    const n = raw.pread64(server.complaints.fd, piece, piece.length, 0);
    server.lastWords = piece.toString("utf8", 0, Math.max(0, n)).trim() || "it ended, or hangs, and said nothing";
    server.process.kill("SIGKILL");
    this.#forget(server);
  }

  /** Closes what there is of a server: without a mount it ends, with one when that is gone. */
  #forget(server: Server): void {
    this.#servers.delete(server);
    server.socket[Symbol.dispose]();
    server.complaints[Symbol.dispose]();
  }

  async rest(): Promise<void> {
    const servers = [...this.#servers];
    for (const server of servers) this.#forget(server);
    const leaving = servers.filter(({ target }) => target === undefined || !isMountPoint(target));
    await Promise.all(leaving.map(({ process }) => ended(process)));
  }
}

async function ended(process: ChildProcess): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null || process.pid === undefined) return;
  process.ref();
  const signal = AbortSignal.timeout(REST_MS);
  await once(process, "exit", { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  process.unref();
}
