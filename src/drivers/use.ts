/** Making {@link Use}s. */
import type { Use } from "./driver.ts";

const nothing = async (): Promise<void> => undefined;

/** What can be reached anyway: disposing does nothing. */
export function freeUse<T>(value: T): Use<T> {
  return { value, [Symbol.asyncDispose]: nothing };
}

/** A use that ends with `release`, which runs once. */
export function useUntil<T>(value: T, release: () => void | Promise<void>): Use<T> {
  let over = false;
  return {
    value,
    [Symbol.asyncDispose]: async () => {
      if (over) return;
      over = true;
      await release();
    },
  };
}

/** One use made of several, which end with it in reverse order, all of them even when one fails. */
export function useOf<T>(value: T, uses: readonly AsyncDisposable[]): Use<T> {
  return useUntil(value, async () => {
    let failure: { readonly error: unknown } | undefined;
    for (const use of uses.toReversed()) {
      try {
        await use[Symbol.asyncDispose]();
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
  });
}
