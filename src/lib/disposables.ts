/** Ownership of resources that are not objects with their own `Symbol.dispose`. */

/** Runs `release` exactly once, however often it is disposed. */
export function disposable(release: () => void): Disposable {
  let released = false;
  return {
    [Symbol.dispose]() {
      if (released) return;
      released = true;
      release();
    },
  };
}

/** Disposes what it was given in reverse order, all of it even when one fails; the first failure is thrown at the end. */
export class Disposables implements Disposable {
  #items: Disposable[] = [];

  /** Takes ownership of `item` and answers it. */
  use<T extends Disposable>(item: T): T {
    this.#items.push(item);
    return item;
  }

  /** Runs `release` at the end. */
  defer(release: () => void): void {
    this.#items.push({ [Symbol.dispose]: release });
  }

  /** Hands everything over to a new owner; this one is empty afterwards. */
  move(): Disposables {
    const owner = new Disposables();
    owner.#items = this.#items;
    this.#items = [];
    return owner;
  }

  [Symbol.dispose](): void {
    let failure: { readonly error: unknown } | undefined;
    for (const item of this.#items.splice(0).reverse()) {
      try {
        item[Symbol.dispose]();
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
  }
}
