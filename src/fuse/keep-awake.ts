/**
 * Keeps a processor from halting while requests come one upon the other. Whoever waits for an answer is woken on a processor
 * that idles, while the one that answers is busy; in a virtual machine that processor has halted, and to start it takes tens of
 * microseconds, longer than the answer. So a thread of the lowest class (SCHED_IDLE: it runs where nothing else wants to)
 * spins from the moment requests come quickly until none has come for a while, as the kernel's governor `haltpoll` does
 * before it halts a guest. Only in virtual machines of several processors, and where time of processors is not rationed.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import * as raw from "../sys/raw.ts";

/** Requests that are looked at together, and the milliseconds in which they have come where they come quickly. */
const BURST = 32;
const BURST_MS = 8;
/** Without a request for so long the thread goes to sleep. */
const SPIN_MS = 0.5;
const SPINS = 200;

const SEEN = 0;
const ASLEEP = 1;

/** The memory that both threads share. */
export function awakeMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(8);
}

/** The serving thread's side. */
export class KeepAwake {
  readonly #shared: Int32Array;
  #seen = 0;
  #since = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#shared = new Int32Array(memory);
  }

  /** Notes a request. */
  requested(): void {
    Atomics.store(this.#shared, SEEN, ++this.#seen | 0);
    if (this.#seen % BURST !== 0) return;
    const now = performance.now();
    if (now - this.#since < BURST_MS && Atomics.load(this.#shared, ASLEEP) === 1) {
      Atomics.store(this.#shared, ASLEEP, 0);
      Atomics.notify(this.#shared, ASLEEP);
    }
    this.#since = now;
  }
}

/** Spins while requests come, until the thread is ended; returns where it cannot have the lowest class. */
export function spinWhileAsked(memory: SharedArrayBuffer): void {
  if (raw.sched_setscheduler(raw.SCHED_IDLE) < 0) return;
  const shared = new Int32Array(memory);
  for (;;) {
    Atomics.store(shared, ASLEEP, 1);
    Atomics.wait(shared, ASLEEP, 1);
    let last = Atomics.load(shared, SEEN);
    for (let since = performance.now(); performance.now() - since < SPIN_MS; ) {
      for (let i = 0; i < SPINS && Atomics.load(shared, SEEN) === last; i++);
      const seen = Atomics.load(shared, SEEN);
      if (seen !== last) since = performance.now();
      last = seen;
    }
  }
}

/** True where spinning helps, and costs nobody anything. */
export function isWorthSpinning(): boolean {
  return availableParallelism() > 1 && isVirtualMachine() && !isRationed();
}

function isVirtualMachine(): boolean {
  return /^flags\s*:.* hypervisor\b/m.test(readIfThere("/proc/cpuinfo"));
}

/** True when a control group that this process is in, or one above, has a quota of processor time. */
function isRationed(): boolean {
  for (const line of readIfThere("/proc/self/cgroup").split("\n")) {
    const [, controllers = "", path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined || (controllers !== "" && !controllers.split(",").includes("cpu"))) continue;
    const root = controllers === "" ? "/sys/fs/cgroup" : `/sys/fs/cgroup/${controllers}`;
    for (let at = path; ; at = at.slice(0, at.lastIndexOf("/"))) {
      const quota = readIfThere(`${root}${at}/${controllers === "" ? "cpu.max" : "cpu.cfs_quota_us"}`);
      if (/^\d/.test(quota)) return true;
      if (at === "") break;
    }
  }
  return false;
}

/** Empty where it is not there or not to be read: a quota that cannot be read counts as none. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
