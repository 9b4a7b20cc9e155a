/** A temporary directory that goes with its owner. */
import { randomBytes } from "node:crypto";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { removeTree } from "./remove-tree.ts";

/** A directory of mode 0700, removed with all below it when disposed. A crash leaves it; its name tells whose it was. */
export class TempDir implements Disposable {
  readonly path: ByteString;
  #removed = false;

  /** `parent` exists. The directory's name begins with `prefix`. */
  constructor(parent: ByteString, prefix: ByteString) {
    this.path = `${parent}/${prefix}${randomBytes(6).toString("hex")}`;
    sys.mkdirat(AT_FDCWD, this.path, 0o700);
  }

  [Symbol.dispose](): void {
    if (this.#removed) return;
    this.#removed = true;
    removeTree(this.path);
  }
}
