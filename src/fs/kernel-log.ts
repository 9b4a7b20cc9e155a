/**
 * What the kernel writes to its log (/dev/kmsg) while something is tried: mounts that fail say why nowhere else. Where the
 * log may not be read (no CAP_SYSLOG), there is simply nothing. Others may write at the same time: callers filter by prefix.
 * Format: Documentation/ABI/testing/dev-kmsg.
 */
import { AT_FDCWD, O_NONBLOCK, O_RDONLY, SEEK_END } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";

const EPIPE = 32;

/** A place in the kernel's log. */
export class KernelLog implements Disposable {
  #fd: number;

  /** From now on. */
  constructor() {
    this.#fd = raw.openat(AT_FDCWD, "/dev/kmsg", O_RDONLY | O_NONBLOCK);
    if (this.#fd >= 0) raw.lseek(this.#fd, 0, SEEK_END);
  }

  /** The messages since, of those that begin with `prefix`, without it. */
  messages(prefix: string): string[] {
    if (this.#fd < 0) return [];
    const found: string[] = [];
    const buffer = Buffer.alloc(8192);
    for (let i = 0; i < 1000; i++) {
      const n = raw.read(this.#fd, buffer);
      if (n === -EPIPE) continue;
      if (n <= 0) break;
      const text = buffer.toString("utf8", 0, n);
      const message = text.slice(text.indexOf(";") + 1).split("\n")[0] ?? "";
      if (message.startsWith(prefix)) found.push(message.slice(prefix.length).trim());
    }
    return found;
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) raw.close(this.#fd);
    this.#fd = -1;
  }
}
