/**
 * Telling what is being made from what a crash left: `<folder>/creating-<hex>` is locked while something named after `<hex>` is
 * under way.
 */
import { randomBytes } from "node:crypto";
import { lockFile, tryLockFile } from "../fs/locks.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { namesIn } from "./layer-folders.ts";

const prefix = "creating-";

/** Something under way, until it is disposed. */
export interface Creation extends Disposable {
  /** For temporary names. */
  readonly hex: string;
}

export class CreationGuards {
  readonly #folder: ByteString;

  /** `folder` exists. */
  constructor(folder: ByteString) {
    this.#folder = folder;
  }

  begin(): Creation {
    const hex = randomBytes(4).toString("hex");
    const path = this.#path(hex);
    const lock = lockFile(path, "shared");
    return {
      hex,
      [Symbol.dispose]: () => {
        raw.unlinkat(AT_FDCWD, path);
        lock[Symbol.dispose]();
      },
    };
  }

  /** False when nobody is making what was named so; its guard goes then. */
  isGoing(hex: string): boolean {
    using held = tryLockFile(this.#path(hex), "exclusive");
    if (held === undefined) return true;
    raw.unlinkat(AT_FDCWD, this.#path(hex));
    return false;
  }

  /** Removes the guards that crashes left. */
  sweep(): void {
    for (const name of namesIn(this.#folder)) if (name.startsWith(prefix)) this.isGoing(name.slice(prefix.length));
  }

  #path(hex: string): ByteString {
    return `${this.#folder}/${prefix}${hex}`;
  }
}
