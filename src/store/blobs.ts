/**
 * Image configs as plain files. A blob appears under its name whole or not at all. Who wants one says so first (holds.ts)
 * and then looks whether it is there; who removes one looks whether somebody wants it; each in one step for all processes.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { syncDirectory, writeDurably } from "../fs/durable-file.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { algorithmOf, type Digest, digestOf, hexOf } from "../oci/digest.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { readAllHolds } from "./holds.ts";
import { neededBlobs } from "./reachability.ts";

/** Puts a blob, which the caller holds, in its place. `flush`: durably, where no syncfs follows. */
export function placeBlob(
  store: StoreContext,
  id: Digest,
  bytes: Uint8Array,
  options: { readonly flush: boolean },
): void {
  const path = store.paths.blob(id);
  const directory = path.slice(0, path.lastIndexOf("/"));
  mkdirSync(directory, { recursive: true, mode: 0o710 });
  if (store.tables.meta.write(() => existsSync(path))) {
    if (options.flush) syncDirectory(bytesOfText(directory));
  } else if (options.flush) {
    failpoint("blob.temporary");
    writeDurably(bytesOfText(path), bytes, { mode: 0o640 });
  } else {
    mkdirSync(store.temporaryDirectory, { recursive: true, mode: 0o700 });
    const temporary = store.temporaryPath("blob");
    writeFileSync(temporary, bytes, { mode: 0o640 });
    failpoint("blob.temporary");
    renameSync(temporary, path);
  }
  failpoint("blob.written");
}

/** Gives up a hold on a blob, and removes it when no image of any driver has it and nobody else holds it. */
export function removeBlobUnlessNeeded(store: StoreContext, id: Digest): void {
  const { tables, holds, paths } = store;
  const hex = hexOf(id);
  tables.meta.write(() => {
    const isWanted =
      holds.blobUses(hex) > 1 ||
      neededBlobs(store).has(id) ||
      tables.meta.drivers().some((driver) => readAllHolds(paths.locksOf(driver), holds.owner).blobs.has(hex));
    if (!isWanted) rmSync(paths.blob(id), { force: true });
  });
  holds.releaseBlob(hex);
}

/** A blob's bytes, verified. Errors: data_loss when it is missing or altered. */
export function readBlob(store: StoreContext, id: Digest): Buffer {
  let bytes: Buffer;
  try {
    bytes = readFileSync(store.paths.blob(id));
  } catch (cause) {
    if (!hasCode(cause, "ENOENT")) throw cause;
    throw new LamellaError("data_loss", "BLOB_MISSING", `the config of image ${id} is missing`, {
      hint: "load or build the image again",
      cause,
    });
  }
  if (digestOf(bytes, algorithmOf(id)) !== id) {
    throw new LamellaError("data_loss", "BLOB_ALTERED", `the config of image ${id} no longer has its digest`, {
      hint: "load or build the image again",
    });
  }
  return bytes;
}
