/**
 * The digest of a tar, noted on the way: the first bytes of the SHA-256 of all that came before, once every so often. When a
 * file of a layer has changed, comparing the notes tells which stretch of the tar it lies in, and so which files to name.
 */
import { createHash } from "node:crypto";
import { markBytes, markIntervalBytes } from "./tar-record-format.ts";

export class DigestMarks {
  readonly #hash = createHash("sha256");
  readonly #marks: Buffer[] = [];
  #bytes = 0;

  /** Adds the next bytes of the tar. Returns how many notes there are now. */
  update(bytes: Uint8Array): number {
    let rest = bytes;
    for (;;) {
      const left = markIntervalBytes - (this.#bytes % markIntervalBytes);
      if (rest.length < left) break;
      this.#hash.update(rest.length === left ? rest : rest.subarray(0, left));
      this.#bytes += left;
      this.#marks.push(this.#hash.copy().digest().subarray(0, markBytes));
      rest = rest.subarray(left);
    }
    if (rest.length > 0) {
      this.#hash.update(rest);
      this.#bytes += rest.length;
    }
    return this.#marks.length;
  }

  /** Note number `index`. */
  mark(index: number): Buffer | undefined {
    return this.#marks[index];
  }

  /** The digest of all, 64 hexadecimal digits, the notes end to end, and the number of bytes. */
  end(): { readonly sha256: string; readonly table: Buffer; readonly bytes: number } {
    return { sha256: this.#hash.digest("hex"), table: Buffer.concat(this.#marks), bytes: this.#bytes };
  }
}
