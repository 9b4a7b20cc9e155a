/**
 * The thin pool: brought up when it is needed, over loop files or block devices of the driver's own or found ready under the
 * name given; taken down when nothing stands on it. What is asked of it are messages (Documentation/admin-guide/
 * device-mapper/thin-provisioning.rst). Whoever calls holds the pool's lock (./thin-devices.ts).
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { blockDeviceSize } from "../../sys/block-device.ts";
import { AT_FDCWD, O_CREAT, O_RDWR } from "../../sys/constants.ts";
import * as dm from "../../sys/device-mapper.ts";
import { attachLoop, isLoopOver, loopPath } from "../../sys/loop.ts";
import * as sys from "../../sys/syscalls.ts";
import type { PoolChoice } from "./options.ts";
import { type PoolStatus, type PoolTable, parsePoolStatus, parsePoolTable } from "./pool-status.ts";
import { dataBlockSectors, METADATA_BLOCK } from "./thin-metadata.ts";

/** As Docker has it: free data blocks at which the kernel sends an event, and blocks that are not zeroed before use. */
const POOL_FEATURES = "32768 1 skip_block_zeroing";

/** A loop file, and the device over it. */
export interface LoopFile {
  readonly device: ByteString;
  readonly file: ByteString;
}

export class ThinPool {
  readonly name: ByteString;
  readonly #choice: Exclude<PoolChoice, { kind: "direct-lvm" }>;
  readonly #folder: ByteString;

  /** `prefix`: of the driver's devices. `folder`: where loop files are, made when it is needed. */
  constructor(choice: Exclude<PoolChoice, { kind: "direct-lvm" }>, prefix: string, folder: ByteString) {
    this.#choice = choice;
    this.#folder = folder;
    this.name = choice.kind === "ready" ? choice.name : `${prefix}-pool`;
  }

  /** True when the pool is the administrator's. */
  get isReady(): boolean {
    return this.#choice.kind === "ready";
  }

  /** True when it is up. */
  isActive(): boolean {
    return dm.find(this.name)?.live === true;
  }

  /** Brings the pool up unless it is. Errors: failed_precondition when a pool that should be ready is not there. */
  activate(): void {
    const device = dm.find(this.name);
    if (device?.live) return;
    const choice = this.#choice;
    if (choice.kind === "ready")
      throw new LamellaError("failed_precondition", "NO_POOL", `the thin pool ${textOfBytes(this.name)} is not there`, {
        hint: `activate it (\`vgchange -ay\`, for one of LVM), or name another with dm.thinpooldev`,
      });
    // Of somebody who was killed before it had a table.
    if (device !== undefined) dm.remove(this.name);
    makeDirectory(this.#folder, 0o700);
    using data = this.#open(choice.dataDevice, "data", choice.dataLoopBytes);
    using metadata = this.#open(choice.metadataDevice, "metadata", choice.metadataLoopBytes);
    const sectors = blockSectorsOf(metadata) ?? choice.blockSectors;
    const length = Math.floor(blockDeviceSize(data.fd, data.path) / 512);
    const parameters = `${metadata.path} ${data.path} ${sectors} ${POOL_FEATURES}`;
    dm.create(this.name, [{ start: 0, length, type: "thin-pool", parameters }]);
  }

  /** Takes the driver's own pool down, and with it its loop devices. False when something stands on it. */
  deactivate(): boolean {
    if (this.#choice.kind === "ready") return false;
    return dm.remove(this.name) !== "busy";
  }

  /** `noflush`: what the pool has not written down yet may not be counted. */
  status(options: { readonly noflush?: boolean } = {}): PoolStatus {
    return parsePoolStatus(textOfBytes(this.name), this.#target(dm.status(this.name, options)));
  }

  table(): PoolTable {
    return parsePoolTable(this.#target(dm.table(this.name)));
  }

  /** Number of the pool's device. It is up. */
  device(): dm.DmDevice {
    const device = dm.find(this.name);
    if (device !== undefined) return device;
    throw new LamellaError("unavailable", "NO_POOL", `the thin pool ${textOfBytes(this.name)} has gone`);
  }

  /** The loop files the pool stands on: those that are given over as devices are undefined. */
  loopFiles(): { readonly data: LoopFile | undefined; readonly metadata: LoopFile | undefined } {
    if (this.#choice.kind === "ready") return { data: undefined, metadata: undefined };
    const { dataDevice, metadataDevice } = this.table();
    return { data: this.#loopFile("data", dataDevice), metadata: this.#loopFile("metadata", metadataDevice) };
  }

  /** Makes an empty thin device. False when there is one of that number. */
  createThin(deviceId: number): boolean {
    return this.#create(`create_thin ${deviceId}`);
  }

  /** Makes a thin device equal to another, which is suspended or not active. False when there is one of that number. */
  createSnapshot(deviceId: number, originId: number): boolean {
    return this.#create(`create_snap ${deviceId} ${originId}`);
  }

  /** Deletes a thin device. */
  delete(deviceId: number): "deleted" | "absent" | "busy" {
    try {
      dm.message(this.name, `delete ${deviceId}`);
      return "deleted";
    } catch (error) {
      if (hasCode(error, "ENODATA")) return "absent";
      if (hasCode(error, "EBUSY")) return "busy";
      throw error;
    }
  }

  setTransactionId(from: number, to: number): void {
    dm.message(this.name, `set_transaction_id ${from} ${to}`);
  }

  /** Keeps the metadata as they are now readable, until released. False when a snapshot is held already. */
  reserveMetadataSnapshot(): boolean {
    return this.#create("reserve_metadata_snap");
  }

  releaseMetadataSnapshot(): void {
    dm.message(this.name, "release_metadata_snap");
  }

  #create(message: string): boolean {
    try {
      dm.message(this.name, message);
      return true;
    } catch (error) {
      if (hasCode(error, "EEXIST", "EBUSY")) return false;
      throw error;
    }
  }

  #target(targets: readonly dm.DmTarget[]): dm.DmTarget {
    return targets[0] ?? { start: 0, length: 0, type: "", parameters: "" };
  }

  #open(device: ByteString | undefined, name: string, sizeBytes: number): OpenDevice {
    if (device !== undefined) return new OpenDevice(device, undefined);
    const path = `${this.#folder}/${name}`;
    growFile(path, sizeBytes);
    const loop = attachLoop(path);
    return new OpenDevice(loop.path, loop);
  }

  #loopFile(name: string, device: string): LoopFile | undefined {
    const [major = Number.NaN, minor = Number.NaN] = device.split(":").map(Number);
    const file = `${this.#folder}/${name}`;
    const stat = sys.statIfExists(AT_FDCWD, file);
    if (stat === undefined || !isLoopOver({ major, minor }, stat)) return undefined;
    return { device: loopPath(minor), file };
  }
}

/** A block device held open until the pool holds it. */
class OpenDevice implements Disposable {
  readonly path: ByteString;
  readonly #file: sys.OwnedFd;
  readonly #loop: Disposable | undefined;

  constructor(path: ByteString, loop: Disposable | undefined) {
    this.path = path;
    this.#loop = loop;
    this.#file = sys.open(path, O_RDWR);
  }

  get fd(): number {
    return this.#file.fd;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
    this.#loop?.[Symbol.dispose]();
  }
}

/** Makes a sparse file of that size, or lets one grow to it; one that is larger stays so. */
function growFile(path: ByteString, sizeBytes: number): void {
  using file = sys.open(path, O_RDWR | O_CREAT, 0o600);
  if (sys.fstat(file.fd).size < sizeBytes) sys.ftruncate(file.fd, sizeBytes);
}

/** The block size that a pool's metadata were made with, in sectors; undefined for a device without any yet. */
function blockSectorsOf(metadata: OpenDevice): number | undefined {
  const superblock = Buffer.alloc(METADATA_BLOCK);
  const n = sys.pread64(metadata.fd, superblock, superblock.length, 0);
  return n < superblock.length ? undefined : dataBlockSectors(superblock);
}
