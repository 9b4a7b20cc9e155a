/**
 * `<root>/migration.json`: a root is being moved to another driver, or has been and the old data is still there. While it
 * lies there two drivers have layers under the root, and it says which of them counts: the old one until all is moved, the
 * new one from then on. Written atomically; the write that says "moved" is the moment of the change.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { writeDurably } from "../fs/durable-file.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { readSmallFile } from "./small-file.ts";

export interface MigrationRecord {
  readonly from: string;
  readonly to: string;
  /** Absolute path of the root that gets the data; undefined for the same root. */
  readonly toRoot: string | undefined;
  readonly state: "moving" | "moved";
  /** The new driver had images or containers there before, so what it has is not of the move alone. */
  readonly merges: boolean;
  /** Digests of what the old store and the new one held when the move was complete; undefined before. */
  readonly fromContents: string | undefined;
  readonly toContents: string | undefined;
}

function pathIn(root: ByteString): ByteString {
  return `${root}/migration.json`;
}

/** The record of a root; undefined when nothing is being moved. Errors: data_loss for a damaged one. */
export function readMigration(root: ByteString): MigrationRecord | undefined {
  const text = readSmallFile(pathIn(root));
  if (text === undefined) return undefined;
  let record: Partial<Record<keyof MigrationRecord, unknown>>;
  try {
    record = JSON.parse(textOfBytes(text)) as typeof record;
  } catch (cause) {
    throw damaged(root, cause);
  }
  const { from, to, toRoot, state, merges, fromContents, toContents } = record;
  const isText = (value: unknown): value is string | undefined => value === undefined || typeof value === "string";
  if (typeof from !== "string" || typeof to !== "string" || (state !== "moving" && state !== "moved"))
    throw damaged(root);
  if (!isText(toRoot) || !isText(fromContents) || !isText(toContents)) throw damaged(root);
  return { from, to, toRoot, state, merges: merges === true, fromContents, toContents };
}

/** Writes the record, durably. */
export function writeMigration(root: ByteString, record: MigrationRecord): void {
  writeDurably(pathIn(root), Buffer.from(`${JSON.stringify(record)}\n`));
}

/** Removes it. Idempotent. */
export function removeMigration(root: ByteString): void {
  sys.unlinkIfExists(AT_FDCWD, pathIn(root));
}

/** The driver that counts for a root with layers of several; undefined when no record says. */
export function chosenDriver(root: ByteString): string | undefined {
  const record = readMigration(root);
  if (record === undefined) return undefined;
  return record.state === "moved" && record.toRoot === undefined ? record.to : record.from;
}

function damaged(root: ByteString, cause?: unknown): LamellaError {
  return new LamellaError("data_loss", "MIGRATION_RECORD", `${textOfBytes(pathIn(root))} is damaged`, {
    hint: "it says which driver's layers count; remove it and name the driver with --driver",
    cause,
  });
}
