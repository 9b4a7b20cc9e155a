/**
 * The end of a move from one driver to another: the data of the old one is removed; or, when the move is given up, that of the
 * new one. Either is refused while there is something only in what would go.
 */
import { existsSync } from "node:fs";
import { exportLayer } from "../diff/export-layer.ts";
import type { LayerId } from "../drivers/driver.ts";
import { type MigrationRecord, readMigration, removeMigration, writeMigration } from "../drivers/migration-record.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { digestOf } from "../oci/digest.ts";
import { StorePaths } from "../store/paths.ts";
import { Store } from "../store/store.ts";
import { isOfOneLayer } from "./layer-mover.ts";

export interface EndMigrationOptions {
  /** The root that was moved. */
  readonly root: string;
  readonly driverOptions?: Readonly<Record<string, string>> | undefined;
  /** Also when images or containers were made, removed or written to since, which is then lost. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One driver's data in one root. */
export interface DriverData {
  readonly driver: string;
  readonly root: string;
}

export interface EndedMigration {
  readonly removed: DriverData & { readonly images: number; readonly layers: number };
  readonly kept: DriverData;
}

/**
 * What a store holds, in short: images, tags, containers by name and what they wrote. Equal when these are, under one driver;
 * another gives another digest for the same. Reads what containers wrote.
 */
export async function contentsOf(store: Store, signal: AbortSignal | undefined): Promise<string> {
  const images = store.images().map(({ id, tags }) => `${id} ${tags.join(" ")}`);
  const containers: string[] = [];
  for (const { id, name, layerId } of store.containers()) {
    containers.push(`${id} ${name ?? ""} ${await changesOf(store, layerId, signal)}`);
  }
  return digestOf(JSON.stringify([images.sort(), containers.sort()]));
}

async function changesOf(store: Store, layerId: LayerId, signal: AbortSignal | undefined): Promise<string> {
  try {
    await using changes = await store.driver.diffSource(layerId);
    return (await exportLayer({ source: changes.value, signal })).diffId;
  } catch (error) {
    // A damaged layer is told of by the move, which leaves the container out.
    if (isOfOneLayer(error)) return error.code;
    throw error;
  }
}

/**
 * Removes the old driver's data. Errors: failed_precondition when nothing was moved (NO_MIGRATION), when the move is not
 * complete, when somebody works on the data, or when there is something in it that was not moved and not `force`.
 */
export async function finishMigration(options: EndMigrationOptions): Promise<EndedMigration> {
  const record = requireMigration(options.root);
  if (record.state !== "moved")
    throw new LamellaError("failed_precondition", "MIGRATION_INCOMPLETE", `${options.root} is not moved completely`, {
      hint: `run \`lamella ${commandOf(record)}\` to its end first, or give it up with --undo`,
    });
  const { from, to } = sidesOf(options.root, record);
  return end(options, { removed: from, kept: to, contents: record.fromContents });
}

/**
 * Gives a move up: removes what has been moved, and the old driver counts (again). Errors: as finishMigration, and
 * failed_precondition (MERGED) when the new driver had images or containers before, which would go, too, and not `force`.
 */
export async function undoMigration(options: EndMigrationOptions): Promise<EndedMigration> {
  const record = requireMigration(options.root);
  const { from, to } = sidesOf(options.root, record);
  if (record.merges && !options.force) throw merged(to, record);
  const back: MigrationRecord = { ...record, state: "moving" };
  const contents = record.state === "moved" ? record.toContents : undefined;
  return end(options, {
    removed: to,
    kept: from,
    contents,
    before: () => writeMigration(bytesOfText(options.root), back),
  });
}

/** The words after `lamella` that go on with a move. */
export function commandOf({ to, toRoot }: MigrationRecord): string {
  return `migrate --to ${to}${toRoot === undefined ? "" : ` --to-root ${toRoot}`}`;
}

function sidesOf(root: string, record: MigrationRecord): { readonly from: DriverData; readonly to: DriverData } {
  return { from: { driver: record.from, root }, to: { driver: record.to, root: record.toRoot ?? root } };
}

interface Ending {
  readonly removed: DriverData;
  readonly kept: DriverData;
  /** What the data held when it was moved; undefined when it may be removed whatever it holds. */
  readonly contents: string | undefined;
  /** Runs when it is certain that the data goes, before any of it does. */
  readonly before?: () => void;
}

async function end(options: EndMigrationOptions, { removed, kept, contents, before }: Ending): Promise<EndedMigration> {
  if (!options.force && !existsSync(new StorePaths(kept.root, kept.driver).driverHome)) throw missing(kept);
  let images = 0;
  let layers = 0;
  {
    const { driverOptions, signal } = options;
    await using store = await Store.open({ ...removed, driverOptions, signal });
    if (store.othersAtWork() > 0) throw inUse(removed);
    images = store.images().length;
    layers = store.layers().length;
    // Empty: it was being removed before, and is not done.
    const isEmpty = images === 0 && store.containers().length === 0;
    const mayDiffer = contents === undefined || isEmpty || options.force;
    if (!mayDiffer && (await contentsOf(store, signal)) !== contents) throw changed(removed);
    before?.();
    await store.clear();
  }
  const paths = new StorePaths(removed.root, removed.driver);
  for (const path of [paths.driverHome, paths.records, paths.spills, paths.locks]) removeTree(bytesOfText(path));
  removeMigration(bytesOfText(options.root));
  return { removed: { ...removed, images, layers }, kept };
}

function requireMigration(root: string): MigrationRecord {
  const record = readMigration(bytesOfText(root));
  if (record !== undefined) return record;
  throw new LamellaError("failed_precondition", "NO_MIGRATION", `${root} is not being moved`, {
    hint: "`lamella migrate --to DRIVER` moves it",
  });
}

function inUse({ driver, root }: DriverData): LamellaError {
  return new LamellaError("failed_precondition", "STORE_IN_USE", `another process works on ${root} under ${driver}`, {
    hint: "wait for it and run the command again",
  });
}

function missing({ driver, root }: DriverData): LamellaError {
  return new LamellaError("failed_precondition", "KEPT_MISSING", `there is nothing of ${driver} in ${root}`, {
    hint: "mount its file system, if that is where the data lies, and run the command again",
  });
}

function merged({ driver, root }: DriverData, record: MigrationRecord): LamellaError {
  const message = `there were images or containers under ${driver} in ${root} before, which would be removed, too`;
  return new LamellaError("failed_precondition", "MERGED", message, {
    hint: `\`lamella ${commandOf(record)}\` and --finish end the move; use --force to lose them`,
  });
}

function changed({ driver, root }: DriverData): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "CHANGED_SINCE",
    `images or containers under ${driver} in ${root} are others than when they were moved`,
    { hint: `move again with --driver ${driver} (what is there is not moved twice), or use --force to lose them` },
  );
}
