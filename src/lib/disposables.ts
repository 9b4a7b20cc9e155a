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

/** Runs the asynchronous `release` exactly once, however often it is disposed. */
export function asyncDisposable(release: () => Promise<void>): AsyncDisposable {
  let released: Promise<void> | undefined;
  return {
    async [Symbol.asyncDispose]() {
      released ??= release();
      await released;
    },
  };
}
