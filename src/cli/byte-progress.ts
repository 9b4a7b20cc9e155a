/** Progress of work that moves bytes: a changing line for each thing in work on a terminal, a line for each one done. */
import { humanDuration } from "../lib/human-duration.ts";
import { humanSize } from "../lib/human-size.ts";
import { LiveLines } from "./live-lines.ts";
import { stderr } from "./output.ts";
import { stderrStyle } from "./style.ts";

interface Item {
  readonly label: string;
  readonly startedAt: number;
  bytes: number;
  totalBytes: number | undefined;
}

export class ByteProgress implements Disposable {
  readonly #items = new Map<string, Item>();
  readonly #lines: LiveLines | undefined;
  readonly #style = stderrStyle();

  /** `quiet`: show nothing. */
  constructor(quiet: boolean) {
    if (!quiet) this.#lines = new LiveLines(stderr, () => this.#render());
  }

  /** Notes how far the thing called `label` is. */
  update(label: string, bytes: number, totalBytes?: number): void {
    const item = this.#items.get(label);
    if (item === undefined) this.#items.set(label, { label, startedAt: performance.now(), bytes, totalBytes });
    else {
      item.bytes = bytes;
      item.totalBytes = totalBytes ?? item.totalBytes;
    }
  }

  /** The thing is done; its line says `how` and stays. */
  finish(label: string, how: string): void {
    const item = this.#items.get(label);
    this.#items.delete(label);
    const tookMs = item === undefined ? 0 : performance.now() - item.startedAt;
    const detail = item && `${humanSize(item.bytes)}${tookMs < 10 ? "" : ` in ${humanDuration(tookMs)}`}`;
    this.#lines?.print(`${label}: ${how}${detail === undefined ? "" : this.#style.dim(` (${detail})`)}`);
  }

  [Symbol.dispose](): void {
    this.#lines?.[Symbol.dispose]();
  }

  #render(): string[] {
    return [...this.#items.values()].map(({ label, bytes, totalBytes, startedAt }) => {
      const of = totalBytes === undefined ? "" : ` of ${humanSize(totalBytes)}`;
      return `${label}: ${this.#style.cyan(humanSize(bytes))}${of} ${this.#style.dim(humanDuration(performance.now() - startedAt))}`;
    });
  }
}
