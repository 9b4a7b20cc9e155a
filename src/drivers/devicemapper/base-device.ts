/**
 * The base device: a thin device with an empty file system, made once; every layer without a parent begins as its snapshot, and
 * so all layers have one size, one kind of file system, and one UUID. Unlike Docker, the directory `rootfs` that holds a
 * layer's tree is in it from the beginning.
 *
 * Making one takes a program and a second or more; the lock `.lamella/base` keeps others from making a second one meanwhile.
 */
import { setTimeout } from "node:timers/promises";
import { LamellaError } from "../../errors/lamella-error.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import { tryLockFile } from "../../fs/locks.ts";
import { umount } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import { nodeOf } from "../../sys/device-mapper.ts";
import * as sys from "../../sys/syscalls.ts";
import { growFileSystem, withMountedDevice } from "./device-mount.ts";
import { dockerSize } from "./docker-size.ts";
import { type DevicemapperOptions, type FileSystem, STANDARD_BASE_BYTES } from "./options.ts";
import { BASE, type DeviceRecord } from "./records.ts";
import { readSuperblock, type Superblock } from "./superblock.ts";
import type { ThinDevices } from "./thin-devices.ts";
import { fileSystemLack, findTool, runTool } from "./tools.ts";

const LOCK_WAIT_MS = 50;

export class BaseDevice {
  readonly #devices: ThinDevices;
  readonly #options: DevicemapperOptions;
  /** An existing directory of the driver's own, for locks and mount points. */
  readonly #folder: ByteString;

  constructor(devices: ThinDevices, options: DevicemapperOptions, folder: ByteString) {
    this.#devices = devices;
    this.#options = options;
    this.#folder = folder;
  }

  /** Its record. It is there once {@link prepare} has been. */
  record(): DeviceRecord {
    const record = this.#devices.records.read(BASE);
    if (record?.initialized) return record;
    throw new LamellaError(
      "data_loss",
      "NO_BASE_DEVICE",
      "devicemapper: the record of the base device (metadata/base) has gone",
    );
  }

  /** Makes the base device unless there is one, or lets it grow to `dm.basesize`. */
  async prepare(): Promise<void> {
    if (!this.#lacks()) return;
    using _ = await this.#lock();
    const { records } = this.#devices;
    const record = records.read(BASE);
    if (record === undefined) await this.#make();
    else if (!record.initialized) {
      // Somebody was killed while he made it.
      this.#devices.delete(BASE, BASE);
      await this.#make();
    } else if (this.#lacks()) this.#grow(record);
  }

  /** What its file system says of itself. */
  superblock(): Superblock {
    return this.#devices.withDevice(BASE, BASE, () => readSuperblock(this.#node()));
  }

  /** Throws unless the device of the pool is the one these records are about. */
  verify(): void {
    const expected = this.#devices.records.deviceSet().baseUuid;
    const { uuid } = this.superblock();
    if (uuid === expected) return;
    throw new LamellaError(
      "failed_precondition",
      "OTHER_POOL",
      "devmapper: Base Device UUID and Filesystem verification failed: devmapper: Current Base Device UUID:" +
        `${uuid} does not match with stored UUID:${expected}. Possibly using a different thin pool than last invocation`,
      { hint: "give the pool that this root was made with" },
    );
  }

  /** Takes the device down that a killed process left up. The number of devices. */
  reclaim(): number {
    using lock = tryLockFile(`${this.#folder}/base`, "exclusive");
    if (lock === undefined) return 0;
    umount(this.#mountPoint());
    return this.#devices.unlessUsed(() => this.#devices.deactivate(BASE)) ? 1 : 0;
  }

  /** True when there is something to be done. Errors: invalid_argument for a size below the present one. */
  #lacks(): boolean {
    const record = this.#devices.records.read(BASE);
    const wanted = this.#options.baseSizeBytes;
    if (!record?.initialized || sys.statIfExists(AT_FDCWD, this.#growing()) !== undefined) return true;
    if (wanted === undefined || wanted === record.sizeBytes) return false;
    if (wanted > record.sizeBytes) return true;
    throw new LamellaError(
      "invalid_argument",
      "BASE_SIZE",
      `devmapper: Base device size cannot be smaller than ${dockerSize(record.sizeBytes)}`,
    );
  }

  async #make(): Promise<void> {
    const { pool, records } = this.#devices;
    const fileSystem = this.#fileSystem();
    this.#devices.locked((status) => {
      if (!pool.isReady || records.transaction() !== undefined) return;
      const refuse = (why: string): never => {
        throw new LamellaError(
          "failed_precondition",
          "POOL_IN_USE",
          `devmapper: Unable to take ownership of thin-pool (${pool.name}) ${why}`,
          { hint: "give an empty thin pool of its own" },
        );
      };
      if (status.usedDataBlocks !== 0) refuse("that already has used data blocks");
      if (status.transactionId !== 0) refuse("with non-zero transaction ID");
    });
    this.#devices.createThin(BASE, this.#options.baseSizeBytes ?? STANDARD_BASE_BYTES);
    this.#devices.activate(BASE, BASE);
    try {
      await makeFileSystem(fileSystem, this.#options.mkfsArguments, this.#node());
      const { uuid } = readSuperblock(this.#node());
      this.#mounted((root) => sys.mkdirat(AT_FDCWD, `${root}/rootfs`, 0o755));
      records.writeDeviceSet({ ...records.deviceSet(), baseUuid: uuid, baseFileSystem: fileSystem });
    } finally {
      this.#devices.deactivate(BASE);
    }
    const record = records.read(BASE);
    if (record !== undefined) records.write(BASE, { ...record, initialized: true });
  }

  /** A file marks it as begun: the record cannot tell, since the device must not be smaller than its file system. */
  #grow(record: DeviceRecord): void {
    writeDurably(this.#growing(), "");
    this.#devices.deactivate(BASE);
    this.#devices.records.write(BASE, { ...record, sizeBytes: this.#options.baseSizeBytes ?? record.sizeBytes });
    this.#devices.withDevice(BASE, BASE, () => growFileSystem(this.#node(), this.#mountPoint()));
    sys.unlinkat(AT_FDCWD, this.#growing());
  }

  #fileSystem(): FileSystem {
    const lack = (fileSystem: FileSystem): string | undefined => fileSystemLack(fileSystem, this.#folder);
    const wanted = this.#options.fileSystem ?? (lack("xfs") === undefined ? "xfs" : "ext4");
    const why = lack(wanted);
    if (why === undefined) return wanted;
    throw new LamellaError("failed_precondition", "NO_FILE_SYSTEM", `devicemapper: no ${wanted} can be made: ${why}`, {
      hint: wanted === "xfs" ? "install xfsprogs, or give dm.fs=ext4" : "install e2fsprogs",
    });
  }

  #mounted<T>(body: (root: ByteString) => T): T {
    return withMountedDevice(this.#node(), this.#mountPoint(), () => body(this.#mountPoint()));
  }

  #node(): ByteString {
    return nodeOf(this.#devices.deviceName(BASE));
  }

  #growing(): ByteString {
    return `${this.#folder}/base-growing`;
  }

  #mountPoint(): ByteString {
    return `${this.#folder}/base-mnt`;
  }

  async #lock(): Promise<Disposable> {
    for (;;) {
      const lock = tryLockFile(`${this.#folder}/base`, "exclusive");
      if (lock !== undefined) return lock;
      await setTimeout(LOCK_WAIT_MS);
    }
  }
}

/** Docker's arguments: nothing that the kernel would go on with in every snapshot is left for later. */
async function makeFileSystem(fileSystem: FileSystem, more: readonly string[], device: ByteString): Promise<void> {
  if (fileSystem === "xfs") {
    await runTool("mkfs.xfs", [...more, device]);
    return;
  }
  const eager = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
  await runTool("mkfs.ext4", ["-q", "-E", eager, ...more, device]);
  // No check after so many mounts or days.
  if (findTool("tune2fs") !== undefined) await runTool("tune2fs", ["-c", "-1", "-i", "0", device]);
}
