/**
 * Where a process that serves a mount says what went wrong inside: whoever used the mount was only told EIO. While someone
 * reads standard error, there; then in the file that was named, or else in the kernel's log (/dev/kmsg), as the kernel's own
 * file systems do, which only root may write. The same error is said once.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { isLamellaError } from "../errors/lamella-error.ts";

/** So many different errors are said. */
const MOST = 1000;

export class InnerErrors {
  readonly #name: string;
  readonly #said = new Set<string>();
  #to: number | undefined = 2;

  /** `name` begins each line. */
  constructor(name: string) {
    this.#name = name;
  }

  /** From now on nobody reads standard error. `file`: where to write instead; it is made and appended to. */
  detach(file: string | undefined): void {
    try {
      this.#to = openSync(file ?? "/dev/kmsg", file === undefined ? "w" : "a", 0o600);
    } catch (error) {
      if (file !== undefined) throw error;
      this.#to = undefined;
    }
  }

  /** Says it, as far as there is a place. */
  readonly say = (error: unknown): void => {
    if (this.#to === undefined || this.#said.size >= MOST) return;
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    // What was foreseen needs no stack.
    const isForeseen = isLamellaError(error) && error.kind !== "internal";
    const text = isForeseen ? `${error.message}${error.hint === undefined ? "" : ` (${error.hint})`}` : what;
    if (this.#said.has(text)) return;
    this.#said.add(text);
    try {
      writeSync(this.#to, `${this.#name}: ${text.replaceAll("\n", " | ")}\n`);
    } catch {
      // A log that takes no more is no reason to end a mount.
      closeSync(this.#to);
      this.#to = undefined;
    }
  };
}
