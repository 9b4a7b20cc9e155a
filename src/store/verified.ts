/** A stream that is checked as it passes: its end comes only when digest and size are what was announced. */
import { createHash } from "node:crypto";
import { LamellaError } from "../errors/lamella-error.ts";
import { algorithmOf, type Digest, hexOf } from "../oci/digest.ts";

/** `source`, then data_loss (DIGEST_MISMATCH, SIZE_MISMATCH) unless it was the blob of that digest and size. */
export async function* verified(
  source: AsyncIterable<Uint8Array>,
  expected: { readonly digest: Digest; readonly sizeBytes: number; readonly what: string },
): AsyncGenerator<Uint8Array> {
  const { digest, sizeBytes, what } = expected;
  const hash = createHash(algorithmOf(digest));
  let length = 0;
  for await (const chunk of source) {
    length += chunk.length;
    if (length > sizeBytes) break;
    hash.update(chunk);
    yield chunk;
  }
  if (length !== sizeBytes) throw sizeMismatch(what, sizeBytes, length);
  if (hash.digest("hex") !== hexOf(digest)) throw digestMismatch(what, digest);
}

export function sizeMismatch(what: string, expected: number, found: number): LamellaError {
  const problem = `its descriptor says ${expected} bytes, it has ${found > expected ? "more" : found}`;
  return new LamellaError("data_loss", "SIZE_MISMATCH", `${what}: ${problem}`);
}

export function digestMismatch(what: string, digest: Digest): LamellaError {
  return new LamellaError("data_loss", "DIGEST_MISMATCH", `${what}: its content does not have the digest ${digest}`, {
    hint: "the archive is damaged or was altered; get it again",
  });
}
