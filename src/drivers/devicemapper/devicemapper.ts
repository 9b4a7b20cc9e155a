/**
 * The driver devicemapper: every layer a thin device, a snapshot of its parent's, with an ext4 or xfs file system on it.
 *
 *     <home>/                        0710
 *       devicemapper/{data,metadata}      sparse files under the pool's loop devices, unless the pool was given
 *       metadata/                         what is known of each device: ./records.ts
 *       setup-config.json                 of a pool set up with LVM: ./direct-lvm.ts
 *       trees/<id>/                       where a layer's device is mounted; its tree is `rootfs` there, beside it `id`
 *       layers/, mnt/, .lamella/          see ../tree-driver.ts; `.lamella/pool` and `.lamella/base` are locks
 *
 * The files and their content are Docker's; the devices are called `lamella-<major>:<minor>-<inode of the home>-<id>`, Docker's
 * `docker-...`: both engines may run on one host, and each leaves the other's alone. docs/formats/devicemapper.md has the rest.
 *
 * A layer exists when `metadata/<id>` does. It is made under a temporary name there, and set aside under another.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ClockStamp, parseClockStamp, takeClockStamp } from "../../diff/clock-stamp.ts";
import type { DiffSource, TreesSource } from "../../diff/source.ts";
import { isLamellaError, LamellaError } from "../../errors/lamella-error.ts";
import { flushFileSystem } from "../../fs/flush.ts";
import { readMountInfo } from "../../fs/mountinfo.ts";
import { isMountPoint } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, MS_NOATIME } from "../../sys/constants.ts";
import * as dm from "../../sys/device-mapper.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverCapabilities, LayerId, LayerUsage, Use } from "../driver.ts";
import { noSuchLayer } from "../layer-errors.ts";
import { isLayerId } from "../layer-id.ts";
import { unmountAt } from "../layer-mounts.ts";
import type { LayerFacts } from "../layer-records.ts";
import { writeNewFile } from "../small-file.ts";
import { type NewTree, TreeDriver } from "../tree-driver.ts";
import { freeUse } from "../use.ts";
import type { BaseDevice } from "./base-device.ts";
import { growFileSystem, mountDevice } from "./device-mount.ts";
import { dockerSize } from "./docker-size.ts";
import { differsOnlyIn, housekeepingOf } from "./housekeeping.ts";
import type { DevicemapperOptions } from "./options.ts";
import { BASE, type DeviceRecord } from "./records.ts";
import { statusLines } from "./status-lines.ts";
import type { ThinDevice, ThinDevices } from "./thin-devices.ts";

/** Blocks in which a layer that changed in nothing may differ from its parent: the log of xfs is written anew, 2 MiB of it. */
const MOST_DIFFERENT = 256;
/** Blocks that are read to see how they differ; the log and the journal are not. */
const MOST_READ = 4;

export interface DevicemapperParts {
  readonly options: DevicemapperOptions;
  readonly devices: ThinDevices;
  readonly base: BaseDevice;
  readonly deferredRemoval: boolean;
  readonly deferredDeletion: boolean;
}

export class DevicemapperDriver extends TreeDriver {
  readonly name = "devicemapper";
  readonly capabilities: DriverCapabilities;
  protected override readonly mountsTrees = true;
  readonly #parts: DevicemapperParts;
  readonly #devices: ThinDevices;
  #isVerified = false;

  constructor(home: ByteString, parts: DevicemapperParts) {
    super(home);
    this.#parts = parts;
    this.#devices = parts.devices;
    const { pool } = parts.options;
    this.capabilities = {
      nativeDiff: true,
      stacks: false,
      maxDepth: Number.POSITIVE_INFINITY,
      quota: true,
      // Data in a loop file is counted as part of the home, which the file lies in.
      ownFileSystems: pool.kind !== "own" || pool.dataDevice !== undefined,
    };
  }

  protected treeOf(id: LayerId): ByteString {
    return `${this.mountPointOf(id)}/rootfs`;
  }

  protected override mountPointOf(id: string): ByteString {
    return `${this.home}/trees/${id}`;
  }

  protected hasTree(id: LayerId): boolean {
    return this.#devices.records.has(id);
  }

  protected treeNames(): readonly string[] {
    return this.#devices.records.names();
  }

  protected async makeTree(tree: NewTree): Promise<LayerFacts["more"]> {
    const origin = this.#originOf(tree.parent);
    const sizeBytes = this.#sizeOf(tree, origin.record);
    this.#verifyOnce();
    const clock = takeClockStamp(`${this.home}/.lamella`);
    this.#devices.createSnapshot(creating(tree), sizeBytes, origin);
    if (sizeBytes > origin.record.sizeBytes) this.#grow(tree);
    return new Map([
      ["clock", JSON.stringify(clock)],
      ["clone-of", origin.of],
    ]);
  }

  protected placeTree(tree: NewTree): void {
    this.#devices.records.rename(creating(tree), tree.id);
  }

  protected async abandonTree(tree: NewTree): Promise<void> {
    this.#devices.delete(creating(tree), tree.hex);
  }

  protected setTreeAside(id: LayerId): () => Promise<void> {
    if (!this.#parts.deferredDeletion) this.#devices.deactivateNow(id);
    const aside = `.${id}-removing-${randomBytes(4).toString("hex")}`;
    this.#devices.records.rename(id, aside);
    return async () => {
      this.#devices.delete(aside, id);
      for (const name of this.#setAside()) this.#devices.delete(name, name.slice(1, 65), { ifDeleted: true });
    };
  }

  protected override attachTree(id: LayerId, { sealed }: LayerFacts): void {
    const { options } = this.#parts;
    const at = this.mountPointOf(id);
    this.#verifyOnce();
    this.#devices.activate(id, id);
    try {
      // Reading a sealed layer is not to write to it.
      const flags = options.mount.flags | (sealed ? MS_NOATIME : 0);
      const device = dm.nodeOf(this.#devices.deviceName(id));
      mountDevice(device, at, { ...options, mount: { ...options.mount, flags } });
    } catch (error) {
      this.#devices.deactivate(id);
      throw error;
    }
    // As Docker does, so that somebody who finds the device knows what it was.
    if (!sealed && sys.statIfExists(AT_FDCWD, `${at}/id`) === undefined) writeNewFile(`${at}/id`, id, 0o600);
  }

  protected override detachTree(id: LayerId): boolean {
    const was = unmountAt(this.mountPointOf(id));
    this.#devices.deactivate(id);
    return was;
  }

  protected override hintOf(_id: LayerId, facts: LayerFacts): TreesSource["hint"] {
    const clock = this.#cloneClock(facts);
    return clock && { kind: "clone", clock };
  }

  /** Of a layer that began as a clone of its parent: not of one that was put on another parent since. */
  #cloneClock({ parent, more }: LayerFacts): ClockStamp | undefined {
    return more.get("clone-of") === parent ? readClock(more.get("clock")) : undefined;
  }

  /** Where the pool tells that nothing changed, no tree is looked at. */
  override async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const { parent } = this.facts(id);
    if (parent === undefined || !this.#isUnchanged(id, parent)) return super.diffSource(id);
    return freeUse({ kind: "trees", parent: this.treeOf(parent), tree: this.treeOf(id), hint: { kind: "none" } });
  }

  #isUnchanged(id: LayerId, parent: LayerId): boolean {
    const clock = this.#cloneClock(this.facts(id));
    // A log that was not replayed after a crash of the machine hides changes.
    if (clock === undefined || !isOfThisBoot(clock)) return false;
    const [mapped, below] = [id, parent].map((of) => this.#devices.mappedSectors(of));
    if (mapped !== undefined && below !== undefined && mapped !== below) return false;
    try {
      return this.#devices.compare(
        this.#deviceOf(parent),
        this.#deviceOf(id),
        ({ differences, blockBytes, readData }) => {
          const first = differences[0];
          if (first === undefined) return true;
          if (differences.length > MOST_DIFFERENT || first.block !== 0 || first.data === undefined) return false;
          const stretches = housekeepingOf(readData(first.data));
          const blocks = { differences, blockBytes, most: MOST_READ };
          return stretches !== undefined && differsOnlyIn(stretches, blocks, readData);
        },
      );
    } catch (error) {
      // Somebody else holds the metadata snapshot: the trees tell as well.
      if (isLamellaError(error, "unavailable")) return false;
      throw error;
    }
  }

  /** A layer's file system is its own: what is written to it is made durable here, and not by the store's syncfs. */
  override async seal(id: LayerId): Promise<void> {
    const { sealed } = this.facts(id);
    if (!sealed && isMountPoint(this.mountPointOf(id))) await flushFileSystem(this.mountPointOf(id));
    await super.seal(id);
  }

  override async rest(): Promise<void> {
    await super.rest();
    // Also what other processes left for the next caller.
    for (const id of this.#devices.active()) if (isLayerId(id)) this.detachUnused(id);
    this.#restPool();
  }

  override async unmountAll(id: LayerId): Promise<boolean> {
    const any = await super.unmountAll(id);
    this.#restPool();
    return any;
  }

  protected async reclaimTrees(isGoing: (hex: string) => boolean): Promise<number> {
    const { records } = this.#devices;
    let count = records.sweep();
    for (const { mountPoint } of readMountInfo()) {
      const hex = mountPoint.startsWith(`${this.home}/trees/.`) ? mountPoint.slice(-8) : undefined;
      if (hex !== undefined && !isGoing(hex) && unmountAt(mountPoint)) count++;
    }
    for (const name of records.names()) {
      const [, id, what, hex] = /^\.([0-9a-f]{64})-(creating|removing)-([0-9a-f]{8})$/.exec(name) ?? [];
      if (id === undefined || hex === undefined || (what === "creating" && isGoing(hex))) continue;
      this.#devices.delete(name, what === "creating" ? hex : id);
      if (!records.has(name)) count++;
    }
    return count + this.#reclaimDevices(isGoing);
  }

  /** Takes down devices that a killed process brought up. Mounted ones have been seen to, or are this process's own. */
  #reclaimDevices(isGoing: (hex: string) => boolean): number {
    const devices = this.#devices;
    if (!devices.pool.isActive()) return 0;
    let count = 0;
    for (const of of devices.active()) {
      if (of === BASE) count += this.#parts.base.reclaim();
      else if (!isLayerId(of)) count += !isGoing(of) && devices.deactivate(of) ? 1 : 0;
      else if (!isMountPoint(this.mountPointOf(of))) {
        this.detachUnused(of);
        if (!devices.isActive(of)) count++;
      }
    }
    return count;
  }

  /** The blocks of the pool that differ from the parent's, and the inodes that the layer has more. */
  async usage(id: LayerId): Promise<LayerUsage> {
    const { parent } = this.facts(id);
    const sizeBytes = this.#devices.compare(this.#originOf(parent), this.#deviceOf(id), (comparison) => {
      const blocks = comparison.differences.filter(({ data }) => data !== undefined).length;
      return blocks * comparison.blockBytes;
    });
    const below = parent === undefined ? this.#parts.base.superblock().usedInodes : await this.#inodes(parent);
    const inodes = (await this.#inodes(id)) - below;
    return { sizeBytes, inodes: Math.max(0, inodes) };
  }

  status(): readonly (readonly [string, string])[] {
    const { options, deferredRemoval, deferredDeletion, base } = this.#parts;
    const { pool, records } = this.#devices;
    const given = (device: ByteString | undefined): { readonly device: ByteString } | undefined =>
      device === undefined ? undefined : { device };
    const own = options.pool.kind === "own" ? options.pool : undefined;
    return this.#devices.locked(() => {
      const loops = pool.loopFiles();
      return statusLines({
        poolName: pool.name,
        status: pool.status(),
        blockBytes: pool.table().blockBytes,
        baseBytes: base.record().sizeBytes,
        baseFileSystem: records.deviceSet().baseFileSystem,
        data: loops.data ?? given(own?.dataDevice),
        metadata: loops.metadata ?? given(own?.metadataDevice),
        minFreePercent: options.minFreePercent,
        deferredRemoval,
        deferredDeletion,
        deletedDevices: this.#setAside().length,
      });
    });
  }

  override details(): readonly (readonly [string, string])[] {
    return [["Device Mapper Version", dm.version().join(".")]];
  }

  /** Records of layers that were removed and whose devices are there yet. */
  #setAside(): string[] {
    return this.#devices.records.names().filter((name) => /^\.[0-9a-f]{64}-removing-/.test(name));
  }

  #deviceOf(id: LayerId): ThinDevice {
    const record = this.#devices.records.read(id);
    if (record === undefined) throw noSuchLayer(id, this.home);
    return { record, of: id };
  }

  #originOf(parent: LayerId | undefined): ThinDevice {
    return parent === undefined ? { record: this.#parts.base.record(), of: BASE } : this.#deviceOf(parent);
  }

  #sizeOf({ sizeBytes }: NewTree, origin: DeviceRecord): number {
    if (sizeBytes === undefined) return origin.sizeBytes;
    const size = Math.floor(sizeBytes / 512) * 512;
    if (size >= origin.sizeBytes) return size;
    const message = `devmapper: Container size cannot be smaller than ${dockerSize(origin.sizeBytes)}`;
    throw new LamellaError("invalid_argument", "LAYER_SIZE", message, {
      hint: "a layer cannot be smaller than what it stands on: give a larger size, or none",
    });
  }

  #grow(tree: NewTree): void {
    this.#devices.activate(creating(tree), tree.hex);
    try {
      growFileSystem(dm.nodeOf(this.#devices.deviceName(tree.hex)), this.mountPointOf(`.${tree.hex}`));
    } finally {
      this.#devices.deactivate(tree.hex);
    }
  }

  /** Once in the life of a process: that the pool is the one the records are about. */
  #verifyOnce(): void {
    if (!this.#isVerified) this.#parts.base.verify();
    this.#isVerified = true;
  }

  #restPool(): void {
    this.#devices.unlessUsed(() => this.#devices.pool.deactivate());
  }

  async #inodes(id: LayerId): Promise<number> {
    await using tree = this.reach(id);
    const { files, filesFree } = sys.statfs(tree.value);
    return files - filesFree;
  }
}

function creating({ id, hex }: NewTree): string {
  return `.${id}-creating-${hex}`;
}

function isOfThisBoot({ boot }: ClockStamp): boolean {
  return boot.startsWith(readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim());
}

function readClock(text: string | undefined): ClockStamp | undefined {
  try {
    return parseClockStamp(JSON.parse(text ?? "null"));
  } catch {
    return undefined;
  }
}
