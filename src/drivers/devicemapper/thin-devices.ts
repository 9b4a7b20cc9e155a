/**
 * The thin devices of a home: made, activated and deleted, each by Docker's transaction, so that the pool and the records in
 * `metadata/` agree whenever a process is killed or the power fails.
 *
 * A transaction, under the lock `.lamella/pool`, which all processes share:
 *
 *     1. transaction-metadata: the pool's transaction number + 1, the record concerned, the device number
 *     2. the message that makes or deletes the thin device; the pool writes its metadata down with each
 *     3. the device's record, written or removed
 *     4. the message that sets the pool's transaction number
 *
 * A number in transaction-metadata above the pool's says that the last one was not finished. Whoever takes the lock next rolls
 * it back: the thin device is deleted and its record removed.
 *
 * An origin that is active is suspended during 2. While a device is suspended, or a metadata snapshot held, there is a file
 * `.lamella/interrupted`: whoever takes the lock and finds one lets all devices go on, and releases the snapshot.
 *
 * The pool is brought up by the first who needs it. It is taken down when `rest` finds that nothing stands on it.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { lockFile } from "../../fs/locks.ts";
import { sleepSync } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { discardDevice } from "../../sys/block-device.ts";
import { AT_FDCWD, O_CREAT, O_WRONLY } from "../../sys/constants.ts";
import * as dm from "../../sys/device-mapper.ts";
import * as sys from "../../sys/syscalls.ts";
import { DeviceIds } from "./device-ids.ts";
import { compareInPool, type PoolComparison } from "./pool-comparison.ts";
import { checkFreeSpace, checkWritable, type PoolStatus } from "./pool-status.ts";
import { BASE, type DeviceRecord, type DeviceRecords, type OpenTransaction } from "./records.ts";
import type { ThinPool } from "./thin-pool.ts";

/** A device just unmounted may be busy for a moment: something (udev, a closing program) looks at it. */
const BUSY_TRIES = 20;
const BUSY_WAIT_MS = 10;

export interface ThinDevicesOptions {
  /** An existing directory for the lock and the mark of what was interrupted. */
  readonly folder: ByteString;
  /** What names of this home's devices begin with. */
  readonly prefix: string;
  readonly deferredRemoval: boolean;
  readonly deferredDeletion: boolean;
  readonly discard: boolean;
  readonly minFreePercent: number;
}

/** What a transaction in transaction-metadata means to a pool at this transaction number. */
export function judgeTransaction(
  open: OpenTransaction | undefined,
  poolId: number,
): "finished" | "roll back" | "foreign" {
  if (open === undefined || open.openId === poolId) return "finished";
  return open.openId > poolId ? "roll back" : "foreign";
}

/** A thin device: its record, and what its active device is named after. */
export interface ThinDevice {
  readonly record: DeviceRecord;
  readonly of: string;
}

export class ThinDevices {
  readonly pool: ThinPool;
  readonly records: DeviceRecords;
  readonly #options: ThinDevicesOptions;
  #ids: DeviceIds | undefined;

  constructor(pool: ThinPool, records: DeviceRecords, options: ThinDevicesOptions) {
    this.pool = pool;
    this.records = records;
    this.#options = options;
  }

  /** Runs `body` with the pool up, as finished transactions left it, and nobody else changing it. */
  locked<T>(body: (status: PoolStatus) => T): T {
    using _ = this.#lock();
    this.pool.activate();
    let status = this.pool.status({ noflush: true });
    if (sys.statIfExists(AT_FDCWD, this.#mark) !== undefined) {
      this.#recover(status);
      status = this.pool.status({ noflush: true });
    }
    const open = this.records.transaction();
    if (open !== undefined && judgeTransaction(open, status.transactionId) === "roll back") {
      this.#rollBack(open);
      status = this.pool.status({ noflush: true });
    }
    return body(status);
  }

  /** Runs `body` while nobody changes the pool, whether it is up or not. */
  unlessUsed<T>(body: () => T): T {
    using _ = this.#lock();
    return body();
  }

  /** Name of the device of a layer, or of whatever else has one. */
  deviceName(of: string): string {
    return `${this.#options.prefix}-${of}`;
  }

  /** What names of devices are named after, of those that are active. */
  active(): string[] {
    const start = `${this.#options.prefix}-`;
    return dm
      .list()
      .filter(({ name }) => name.startsWith(start) && name !== this.pool.name)
      .map(({ name }) => name.slice(start.length));
  }

  /** Makes an empty device with this record. */
  createThin(name: string, sizeBytes: number): void {
    this.locked((status) => this.#create(status, { name, sizeBytes }, (id) => this.pool.createThin(id)));
  }

  /** Makes a device equal to `origin`. Errors: resource_exhausted when too little of the pool is free. */
  createSnapshot(name: string, sizeBytes: number, origin: ThinDevice): void {
    this.locked((status) => {
      checkFreeSpace(status, this.#options.minFreePercent);
      const snapshot = (id: number): boolean => this.pool.createSnapshot(id, origin.record.deviceId);
      const make = (id: number): boolean =>
        this.isActive(origin.of) ? this.#marked(() => this.#suspended([origin.of], () => snapshot(id))) : snapshot(id);
      this.#create(status, { name, sizeBytes }, make);
    });
  }

  /**
   * Runs `body` with the blocks in which a device differs from its origin, with both at rest: what their file systems hold
   * has been written. Nothing can be read from them meanwhile but by its place in the pool.
   */
  compare<T>(origin: ThinDevice, device: ThinDevice, body: (comparison: PoolComparison) => T): T {
    return this.locked((status) => {
      // Nobody else has to do with a pool of the driver's own.
      if (status.heldRoot !== undefined && !this.pool.isReady) this.pool.releaseMetadataSnapshot();
      return this.#marked(() =>
        this.#suspended([origin.of, device.of], () =>
          compareInPool(this.pool, origin.record.deviceId, device.record.deviceId, body),
        ),
      );
    });
  }

  /**
   * Deletes a device and its record; nothing when there is no such record. `of`: what its active device is named after.
   * A device in use is deleted another time (dm.use_deferred_deletion), else that is an error: failed_precondition.
   * `ifDeleted`: only when that was put off before.
   */
  delete(name: string, of: string, { ifDeleted = false }: { readonly ifDeleted?: boolean } = {}): void {
    const before = this.records.read(name);
    if (before === undefined || (ifDeleted && !before.deleted)) return;
    if (this.#options.discard) this.#discard(name, of);
    this.deactivate(of, { wait: !this.#options.deferredDeletion });
    this.locked((status) => {
      const record = this.records.read(name);
      if (record === undefined) return;
      checkWritable(this.pool.name, status);
      const open = { openId: status.transactionId + 1, record: name, deviceId: record.deviceId };
      this.records.writeTransaction(open);
      const outcome = this.pool.delete(record.deviceId);
      if (outcome === "busy") this.records.write(name, { ...record, deleted: true });
      else {
        this.records.remove(name);
        this.#ids?.free(record.deviceId);
      }
      this.pool.setTransactionId(status.transactionId, open.openId);
      if (outcome === "busy" && !this.#options.deferredDeletion) throw busy(of);
    });
  }

  /** Brings a device up, unless it is, under the name of `of`. */
  activate(name: string, of: string): void {
    this.locked(() => this.#activate(name, of));
  }

  /** Runs `body` with a device up that is taken down again, unless it was up before. Nobody changes the pool meanwhile. */
  withDevice<T>(name: string, of: string, body: () => T): T {
    return this.locked(() => {
      const wasUp = this.isActive(of);
      this.#activate(name, of);
      try {
        return body();
      } finally {
        if (!wasUp) this.deactivate(of);
      }
    });
  }

  /** True when a device is up. */
  isActive(of: string): boolean {
    return dm.find(this.deviceName(of))?.live === true;
  }

  /** Sectors that a device has of the pool, its own and those it shares; undefined when it is not up. */
  mappedSectors(of: string): number | undefined {
    if (!this.isActive(of)) return undefined;
    const mapped = Number.parseInt(dm.status(this.deviceName(of), { noflush: true })[0]?.parameters ?? "", 10);
    return Number.isNaN(mapped) ? undefined : mapped;
  }

  #activate(name: string, of: string): void {
    const record = this.records.read(name);
    if (record === undefined) throw new LamellaError("not_found", "NO_DEVICE", `no thin device ${name}`);
    const deviceName = this.deviceName(of);
    let device = dm.find(deviceName);
    if (device?.deferredRemove) device = dm.revive(deviceName);
    if (device?.live) {
      if (device.suspended) dm.resume(deviceName);
      return;
    }
    if (device !== undefined) dm.remove(deviceName);
    const { major, minor } = this.pool.device();
    const length = Math.floor(record.sizeBytes / 512);
    const parameters = `${major}:${minor} ${record.deviceId}`;
    dm.create(deviceName, [{ start: 0, length, type: "thin", parameters }]);
  }

  /**
   * Takes a device down. One in use goes when it is free (dm.use_deferred_removal), or stays. `wait`: never deferred; false
   * when it stays.
   */
  deactivate(of: string, { wait = false }: { readonly wait?: boolean } = {}): boolean {
    const deferred = this.#options.deferredRemoval && !wait;
    for (let i = 0; ; i++) {
      const outcome = dm.remove(this.deviceName(of), { deferred });
      if (outcome !== "busy") return true;
      if (i + 1 >= BUSY_TRIES) return false;
      sleepSync(BUSY_WAIT_MS);
    }
  }

  /** Takes a device down at once. Errors: failed_precondition when it is in use. */
  deactivateNow(of: string): void {
    if (!this.deactivate(of, { wait: true })) throw busy(of);
  }

  #lock(): Disposable {
    return lockFile(`${this.#options.folder}/pool`, "exclusive");
  }

  get #mark(): ByteString {
    return `${this.#options.folder}/interrupted`;
  }

  #marked<T>(body: () => T): T {
    sys.close(sys.openat(AT_FDCWD, this.#mark, O_WRONLY | O_CREAT, 0o600));
    const result = body();
    // Not after a failure: it may be one to resume, which the next is to try again.
    sys.unlinkIfExists(AT_FDCWD, this.#mark);
    return result;
  }

  /** Puts right what a process left when it was killed: devices suspended, a metadata snapshot held. */
  #recover({ heldRoot }: PoolStatus): void {
    for (const of of this.active()) {
      const name = this.deviceName(of);
      if (dm.find(name)?.suspended) dm.resume(name);
    }
    if (heldRoot !== undefined) this.pool.releaseMetadataSnapshot();
    sys.unlinkIfExists(AT_FDCWD, this.#mark);
  }

  /** Runs `body` with those of these devices suspended that are active; marked by the caller. */
  #suspended<T>(ofs: readonly string[], body: () => T): T {
    const [of, ...others] = ofs;
    if (of === undefined) return body();
    const name = this.deviceName(of);
    if (!dm.find(name)?.live) return this.#suspended(others, body);
    try {
      dm.suspend(name);
    } catch (error) {
      // It was to go as soon as it was free, and has gone.
      if (hasCode(error, "ENXIO")) return this.#suspended(others, body);
      throw error;
    }
    try {
      return this.#suspended(others, body);
    } finally {
      dm.resume(name);
    }
  }

  /** Undoes a transaction. The device is spared when it turns out to be another's: numbers are tried before they are had. */
  #rollBack({ record, deviceId }: OpenTransaction): void {
    const known = this.records.read(record);
    const isOthers = this.records
      .names()
      .some((name) => name !== record && this.records.read(name)?.deviceId === deviceId);
    const outcome = isOthers ? "absent" : this.pool.delete(deviceId);
    if (outcome === "busy" && known !== undefined) this.records.write(record, { ...known, deleted: true });
    else this.records.remove(record);
    if (!isOthers && outcome !== "busy") this.#ids?.free(deviceId);
    this.records.removeTransaction();
  }

  #create(
    status: PoolStatus,
    { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
    make: (deviceId: number) => boolean,
  ): void {
    checkWritable(this.pool.name, status);
    const openId = status.transactionId + 1;
    this.#ids ??= this.#readIds();
    for (;;) {
      const deviceId = this.#ids.next();
      if (deviceId === undefined)
        throw new LamellaError("resource_exhausted", "DEVICE_IDS", "devmapper: Unable to find a free device ID");
      const open = { openId, record: name, deviceId };
      this.records.writeTransaction(open);
      try {
        if (!make(deviceId)) {
          // Another process was here, or there is a device that no record tells of.
          this.#ids = this.#readIds();
          this.#ids.use(deviceId);
          continue;
        }
        const record = { deviceId, sizeBytes, transactionId: openId, initialized: false, deleted: false };
        this.records.write(name, record);
        this.pool.setTransactionId(status.transactionId, openId);
        return;
      } catch (error) {
        this.#rollBack(open);
        throw error;
      }
    }
  }

  #readIds(): DeviceIds {
    const used: number[] = [];
    for (const name of this.records.names()) {
      const record = this.records.read(name);
      if (record !== undefined) used.push(record.deviceId);
    }
    const last = this.records.transaction()?.deviceId ?? 0;
    return new DeviceIds(used, Math.max(last, this.records.deviceSet().nextDeviceId));
  }

  /** Gives back what a device has in the loop file: the pool does not when it deletes one. Only what nobody uses. */
  #discard(name: string, of: string): void {
    this.activate(name, of);
    if (dm.find(this.deviceName(of))?.openCount === 0) discardDevice(dm.nodeOf(this.deviceName(of)));
  }
}

function busy(of: string): LamellaError {
  const what = of === BASE ? "the base device" : `layer ${of}`;
  return new LamellaError("failed_precondition", "DEVICE_BUSY", `the thin device of ${what} is in use`, {
    hint: "end what has it mounted, in whatever mount namespace, or use dm.use_deferred_deletion=true",
  });
}
