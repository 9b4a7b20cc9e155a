/**
 * Keeps the serving thread on the processor of the one thread that asks, while there is one. Client and server then only take
 * turns, and handing over is a switch of tasks; on two processors each hand-over wakes a sleeping one, which takes several
 * times as long, above all in a virtual machine. With several clients the thread runs wherever the scheduler puts it.
 *
 * What counts is looked at once in so many requests, so that it costs next to nothing.
 */
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";

/** Requests after which it is decided anew, and how many of them must be of one client. */
const WINDOW = 64;
const MOST = 56;
/** A set of processors, in bytes: as many as the kernel can be built for. */
const SET = 1024;

export class Companion {
  /** Where this thread may run; undefined where that cannot be told, and nothing is done. */
  readonly #allowed: Uint8Array | undefined;
  readonly #one = new Uint8Array(SET);
  readonly #stat = Buffer.allocUnsafeSlow(1024);
  #seen = 0;
  #client = 0;
  #ofClient = 0;
  #processor = -1;

  constructor() {
    const set = new Uint8Array(SET);
    const length = raw.sched_getaffinity(set);
    this.#allowed = length > 0 ? set : undefined;
  }

  /** Notes who asks. */
  asked(pid: number): void {
    if (pid === 0 || this.#allowed === undefined) return;
    if (this.#seen === 0) this.#client = pid;
    if (pid === this.#client) this.#ofClient++;
    if (++this.#seen < WINDOW) return;
    this.#move(this.#allowed, this.#ofClient >= MOST ? this.#processorOf(this.#client) : -1);
    this.#seen = 0;
    this.#ofClient = 0;
  }

  /** To one processor, or with -1 to all that are allowed. */
  #move(allowed: Uint8Array, processor: number): void {
    if (processor === this.#processor) return;
    if (processor >= 0 && ((allowed[processor >>> 3] ?? 0) & (1 << (processor & 7))) === 0) return;
    this.#processor = processor;
    this.#one.fill(0);
    if (processor >= 0) this.#one[processor >>> 3] = 1 << (processor & 7);
    raw.sched_setaffinity(processor >= 0 ? this.#one : allowed);
  }

  /** That on which a thread ran last, -1 when it cannot be told (proc_pid_stat(5), the 39th field). */
  #processorOf(pid: number): number {
    const fd = raw.openat(C.AT_FDCWD, `/proc/${pid}/stat`, C.O_RDONLY);
    if (fd < 0) return -1;
    const length = raw.read(fd, this.#stat);
    raw.close(fd);
    const text = this.#stat.toString("latin1", 0, Math.max(0, length));
    // The second field is the program's name in parentheses, which may hold anything.
    const processor = text.slice(text.lastIndexOf(")") + 2).split(" ")[36];
    return processor === undefined ? -1 : Number(processor);
  }
}
