/** Bounds how many things go on at once. */
import { disposable } from "./disposables.ts";

export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot, in the order of the calls; disposing gives it back. */
  async take(): Promise<Disposable> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return disposable(() => {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    });
  }
}
