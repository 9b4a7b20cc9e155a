/** Size limits of layers: what they would need, said clearly, since this driver sets none. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";

/** Throws failed_precondition. */
export function refuseQuota(home: ByteString, backingFileSystem: string): never {
  throw new LamellaError(
    "failed_precondition",
    "QUOTA_UNSUPPORTED",
    `overlay2 sets no size limits (project quotas), on ${backingFileSystem} at ${textOfBytes(home)} or elsewhere`,
    { hint: "leave out the option `size`; limit the file system that holds the root instead" },
  );
}
