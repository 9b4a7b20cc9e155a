/** Numbers of thin devices: 24 bits, handed out in turn, those in use left out. What another process uses, the pool tells. */

const MOST = 0xffffff;

export class DeviceIds {
  readonly #used = new Uint8Array((MOST + 1) / 8);
  #last: number;

  /** `last`: the number handed out last. */
  constructor(used: Iterable<number>, last: number) {
    for (const id of used) this.use(id);
    this.#last = last & MOST;
  }

  /** The next free number, which counts as used from now on; undefined when there is none. */
  next(): number | undefined {
    for (let i = 0; i <= MOST; i++) {
      this.#last = (this.#last + 1) & MOST;
      if (!this.#isUsed(this.#last)) {
        this.use(this.#last);
        return this.#last;
      }
    }
    return undefined;
  }

  use(id: number): void {
    this.#used[id >> 3] = (this.#used[id >> 3] ?? 0) | (1 << (id & 7));
  }

  free(id: number): void {
    this.#used[id >> 3] = (this.#used[id >> 3] ?? 0) & ~(1 << (id & 7));
  }

  #isUsed(id: number): boolean {
    return ((this.#used[id >> 3] ?? 0) & (1 << (id & 7))) !== 0;
  }
}
