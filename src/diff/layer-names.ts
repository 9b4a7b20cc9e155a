/** Names that a layer cannot hold. */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";

/** Refuses an object or a deletion whose name reads as a whiteout. Errors: failed_precondition (`INEXPRESSIBLE_NAME`). */
export function checkLayerName(name: ByteString, path: ByteString): void {
  if (!name.startsWith(".wh.")) return;
  throw new LamellaError(
    "failed_precondition",
    "INEXPRESSIBLE_NAME",
    `${textOfBytes(path)}: a layer cannot hold a name that begins with ".wh."`,
    { hint: "that prefix marks deletions in layers; rename or remove the file" },
  );
}
