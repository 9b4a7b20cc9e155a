/**
 * Lines at the end of a terminal that change in place while work goes on, with finished lines scrolling up above them.
 * Where the output is no terminal, only the finished lines appear.
 */
import type { Output } from "./output.ts";

const framesPerSecond = 12;

export class LiveLines implements Disposable {
  readonly #output: Output;
  readonly #render: () => readonly string[];
  readonly #timer: NodeJS.Timeout | undefined;
  #drawn = 0;

  /** `render` answers the lines as they are now; it is asked about a dozen times a second. */
  constructor(output: Output, render: () => readonly string[], live = output.isTTY) {
    this.#output = output;
    this.#render = render;
    if (live) this.#timer = setInterval(() => this.#draw(), 1000 / framesPerSecond).unref();
  }

  /** Prints a line that stays. */
  print(line: string): void {
    this.#output.write(`${this.#erasing()}${line}\n`);
    if (this.#timer !== undefined) this.#draw();
  }

  /** Takes the changing lines away. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    const erasing = this.#erasing();
    if (erasing !== "") this.#output.write(erasing);
  }

  #draw(): void {
    const width = this.#output.columns - 1;
    const most = Math.max(1, this.#output.rows - 2);
    const lines = this.#render().slice(-most);
    const text = lines.map((line) => `${clip(line, width)}\n`).join("");
    this.#output.write(this.#erasing() + text);
    this.#drawn = lines.length;
  }

  #erasing(): string {
    const drawn = this.#drawn;
    this.#drawn = 0;
    return drawn > 0 ? `\x1b[${drawn}A\x1b[0J` : "";
  }
}

/** The first `width` visible characters; colour sequences are kept and end at the cut. */
function clip(text: string, width: number): string {
  let visible = 0;
  let clipped = "";
  for (const [piece, sequence] of text.matchAll(/(\x1b\[[0-9;]*m)|./gsu)) {
    if (sequence === undefined && ++visible > width) return `${clipped}\x1b[0m`;
    clipped += piece;
  }
  return clipped;
}
