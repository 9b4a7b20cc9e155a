/**
 * The driver's small files, in Docker's form (JSON, mode 0600), each replaced whole and durably:
 *
 *     <home>/metadata/
 *       base                   the base device's record
 *       <id>                   a layer's record: it exists
 *       .<id>-creating-<hex>   the record of a layer that is being made
 *       .<id>-removing-<hex>   the record of one that is set aside, to be deleted from the pool
 *       deviceset-metadata     {"next_device_id", "BaseDeviceUUID", "BaseDeviceFilesystem"}
 *       transaction-metadata   {"open_transaction_id", "device_hash", "device_id"}: see ./transactions.ts
 *
 * A record is {"device_id", "size", "transaction_id", "initialized", "deleted"}. Docker passes over names that begin with a dot.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { readSmallFile } from "../small-file.ts";

export const BASE = "base";
const DEVICE_SET = "deviceset-metadata";
const TRANSACTION = "transaction-metadata";

/** A thin device of the pool. */
export interface DeviceRecord {
  readonly deviceId: number;
  readonly sizeBytes: number;
  /** The pool's transaction that made it. */
  readonly transactionId: number;
  /** Of the base device: it has its file system. */
  readonly initialized: boolean;
  /** It could not be deleted yet, because somebody uses it. */
  readonly deleted: boolean;
}

export interface DeviceSetFacts {
  readonly nextDeviceId: number;
  readonly baseUuid: string;
  readonly baseFileSystem: string;
}

/** The last transaction that was begun; over when the pool has its number. */
export interface OpenTransaction {
  readonly openId: number;
  /** Name of the record of the device concerned. */
  readonly record: string;
  readonly deviceId: number;
}

/** Reads a record's text. Errors: data_loss. */
export function parseRecord(text: ByteString, name: string): DeviceRecord {
  const fields = parseObject(text, name);
  return {
    deviceId: numberOf(fields, "device_id", name),
    sizeBytes: numberOf(fields, "size", name),
    transactionId: numberOf(fields, "transaction_id", name),
    initialized: fields.initialized === true,
    deleted: fields.deleted === true,
  };
}

export function formatRecord(record: DeviceRecord): string {
  const { deviceId, sizeBytes, transactionId, initialized, deleted } = record;
  return JSON.stringify({
    device_id: deviceId,
    size: sizeBytes,
    transaction_id: transactionId,
    initialized,
    deleted,
  });
}

/** Reads the transaction's text. Errors: data_loss. Docker calls the base device "". */
export function parseTransaction(text: ByteString): OpenTransaction {
  const fields = parseObject(text, TRANSACTION);
  const record = typeof fields.device_hash === "string" && fields.device_hash !== "" ? fields.device_hash : BASE;
  const [openId, deviceId] = [numberOf(fields, "open_transaction_id", TRANSACTION), fields.device_id];
  return { openId, record, deviceId: typeof deviceId === "number" ? deviceId : 0 };
}

export function formatTransaction({ openId, record, deviceId }: OpenTransaction): string {
  return JSON.stringify({
    open_transaction_id: openId,
    device_hash: record === BASE ? "" : record,
    device_id: deviceId,
  });
}

export class DeviceRecords {
  readonly #folder: ByteString;

  /** `folder` exists. */
  constructor(folder: ByteString) {
    this.#folder = folder;
  }

  has(name: string): boolean {
    return sys.statIfExists(AT_FDCWD, this.#path(name)) !== undefined;
  }

  read(name: string): DeviceRecord | undefined {
    const text = readSmallFile(this.#path(name));
    return text === undefined ? undefined : parseRecord(text, name);
  }

  write(name: string, record: DeviceRecord): void {
    this.#write(name, formatRecord(record));
  }

  remove(name: string): void {
    sys.unlinkIfExists(AT_FDCWD, this.#path(name));
  }

  /** Gives a record another name. Errors: EEXIST, ENOENT. */
  rename(from: string, to: string): void {
    sys.renameToFree(AT_FDCWD, this.#path(from), AT_FDCWD, this.#path(to));
  }

  /** Names of all records, those of unfinished things among them. */
  names(): string[] {
    return this.#allNames().filter((name) => name !== DEVICE_SET && name !== TRANSACTION && !isTemporary(name));
  }

  /** Deletes what writes that were killed have left. The number of files. */
  sweep(): number {
    const left = this.#allNames().filter(isTemporary);
    for (const name of left) this.remove(name);
    return left.length;
  }

  deviceSet(): DeviceSetFacts {
    const text = readSmallFile(this.#path(DEVICE_SET));
    const fields = text === undefined ? {} : parseObject(text, DEVICE_SET);
    const textOf = (value: unknown): string => (typeof value === "string" ? value : "");
    return {
      nextDeviceId: typeof fields.next_device_id === "number" ? fields.next_device_id : 0,
      baseUuid: textOf(fields.BaseDeviceUUID),
      baseFileSystem: textOf(fields.BaseDeviceFilesystem),
    };
  }

  writeDeviceSet({ nextDeviceId, baseUuid, baseFileSystem }: DeviceSetFacts): void {
    const fields = { next_device_id: nextDeviceId, BaseDeviceUUID: baseUuid, BaseDeviceFilesystem: baseFileSystem };
    this.#write(DEVICE_SET, JSON.stringify(fields));
  }

  transaction(): OpenTransaction | undefined {
    const text = readSmallFile(this.#path(TRANSACTION));
    return text === undefined ? undefined : parseTransaction(text);
  }

  writeTransaction(transaction: OpenTransaction): void {
    this.#write(TRANSACTION, formatTransaction(transaction));
  }

  removeTransaction(): void {
    this.remove(TRANSACTION);
  }

  #allNames(): string[] {
    using directory = sys.open(this.#folder, O_RDONLY | O_DIRECTORY);
    return sys.readdir(directory.fd).map((entry) => entry.name);
  }

  #path(name: string): ByteString {
    return `${this.#folder}/${name}`;
  }

  #write(name: string, text: string): void {
    writeDurably(this.#path(name), text, { mode: 0o600 });
  }
}

function isTemporary(name: string): boolean {
  return name.startsWith(".") && name.endsWith(".tmp");
}

function parseObject(text: ByteString, name: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw broken(name);
}

function numberOf(fields: Readonly<Record<string, unknown>>, key: string, name: string): number {
  const value = fields[key];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw broken(name);
}

function broken(name: string): LamellaError {
  return new LamellaError("data_loss", "DEVICE_RECORD", `devicemapper: the file metadata/${name} is broken`, {
    hint: "the pool's devices are as they were: restore the file, or remove the layer and what stands on it",
  });
}
