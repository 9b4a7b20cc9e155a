/**
 * The datasets of a home's layers, all children of one parent dataset:
 *
 *     <parent>/<id>                 a layer
 *     <parent>/<id>@<16 digits>     the layer as it was committed, named after its id: what its children are clones of
 *
 * Every dataset has the user property `lamella:of=<home>-<creation>`: the random number of the home that it belongs to, since
 * homes may share a parent, and that of the creation that made it, so that one under way can be told from one that was left.
 *
 * A snapshot stays as long as its layer; a layer that others are clones of and that is to go, because they were put on
 * another parent meanwhile, hands its snapshots over to one of them (`zfs promote`). Such a snapshot is destroyed deferred:
 * it goes with the last clone.
 *
 * Each run of `zfs` costs milliseconds; whatever changes something waits for the pool's next transaction group, too. That is
 * also what makes layers durable: all that was written before is in the same group or an earlier one.
 */
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import type { LayerId } from "../driver.ts";
import type { Mounter, ProgramAbilities } from "./abilities.ts";
import { type Programs, zfsError } from "./programs.ts";
import { isStaleTrial } from "./trial.ts";

const MARK = "lamella:of";

export interface NewDataset {
  readonly id: LayerId;
  /** Where it will be mounted. */
  readonly mountPoint: ByteString;
  readonly quotaBytes: number | undefined;
  /** Random number of the creation. */
  readonly hex: string;
}

/** A dataset of a layer of this home, or a snapshot of one. */
export interface ListedDataset {
  readonly id: string;
  /** Without the `@`; undefined for the dataset itself. */
  readonly snapshot: string | undefined;
  /** Random number of the creation. */
  readonly hex: string;
  /** The snapshot it is a clone of. */
  readonly origin: string | undefined;
  /** It goes with the last of its clones. */
  readonly isDeferred: boolean;
}

export interface Listing {
  /** Those of this home. */
  readonly layers: readonly ListedDataset[];
  /** Names of trial datasets that a crash has left, of whatever home. */
  readonly staleTrials: readonly string[];
}

export interface DatasetsOptions {
  readonly programs: Programs;
  readonly abilities: ProgramAbilities;
  readonly mounter: Mounter;
  readonly parent: string;
  /** Random number of the home. */
  readonly homeHex: string;
}

export class Datasets {
  readonly #programs: Programs;
  readonly #options: DatasetsOptions;

  constructor(options: DatasetsOptions) {
    this.#programs = options.programs;
    this.#options = options;
  }

  nameOf(id: string): string {
    return `${this.#options.parent}/${id}`;
  }

  snapshotOf(id: LayerId): string {
    return `${this.nameOf(id)}@${snapshotName(id)}`;
  }

  /** Makes an empty dataset. Answers `exists` when there is one of that name. */
  async create(dataset: NewDataset): Promise<"made" | "exists"> {
    // A parent that normalizes names, or takes only UTF-8, would hand that down. Clones have it from their origin.
    const names = ["-o", "utf8only=off", "-o", "normalization=none", "-o", "casesensitivity=sensitive"];
    const name = this.nameOf(dataset.id);
    const answer = await this.#programs.zfs(["create", ...names, ...this.#properties(dataset), name]);
    if (answer.refusal === undefined) return "made";
    if (answer.refusal === "exists") return "exists";
    throw zfsError(`make the dataset ${name}`, answer);
  }

  /**
   * Makes a clone of a layer's snapshot; a daemon mounts it at once. Answers `missing` when the layer has no snapshot, `exists`
   * when there is a dataset of that name.
   */
  async clone(from: LayerId, dataset: NewDataset): Promise<"made" | "exists" | "missing"> {
    const name = this.nameOf(dataset.id);
    const answer = await this.#programs.zfs(["clone", ...this.#properties(dataset), this.snapshotOf(from), name]);
    // What was made but could not be mounted is mounted when it is needed, or tells then why not.
    if (answer.refusal === undefined || /successfully created/.test(answer.stderr)) return "made";
    if (answer.refusal === "exists" || answer.refusal === "missing") return answer.refusal;
    throw zfsError(`make the dataset ${name}`, answer);
  }

  /** Takes a layer's snapshot, unless it has been taken. All that was written to the pool before is durable then. */
  async takeSnapshot(id: LayerId): Promise<void> {
    const answer = await this.#programs.zfs(["snapshot", this.snapshotOf(id)]);
    if (answer.refusal !== undefined && answer.refusal !== "exists")
      throw zfsError(`take the snapshot ${this.snapshotOf(id)}`, answer);
  }

  /** The creation that made the dataset, when it belongs to this home. */
  async creationOf(id: LayerId): Promise<string | undefined> {
    const answer = await this.#programs.zfs(["get", "-H", "-o", "value", MARK, this.nameOf(id)]);
    return this.#creationIn(answer.stdout.trim());
  }

  /**
   * Destroys a layer's dataset with its snapshots. What is not there is fine. False when it stayed busy: it is mounted
   * somewhere that cannot be seen from here.
   */
  async destroy(id: string): Promise<boolean> {
    const name = this.nameOf(id);
    for (;;) {
      const answer = await this.#programs.zfsWhenFree(["destroy", "-r", name]);
      if (answer.refusal === undefined || answer.refusal === "missing") return true;
      if (answer.refusal === "busy") return false;
      if (answer.refusal !== "clones") throw zfsError(`destroy the dataset ${name}`, answer);
      await this.#handOver(id);
    }
  }

  /** Destroys a snapshot now or, when it has clones, with the last of them; false when `zfs` can do only the first. */
  async destroySnapshot(id: string, snapshot: string): Promise<boolean> {
    const name = `${this.nameOf(id)}@${snapshot}`;
    const flags = this.#options.abilities.deferredDestroy ? ["-d"] : [];
    const answer = await this.#programs.zfs(["destroy", ...flags, name]);
    if (answer.refusal === "clones") return false;
    if (answer.refusal === undefined || answer.refusal === "missing") return true;
    throw zfsError(`destroy the snapshot ${name}`, answer);
  }

  /** What `zfs diff` prints of a layer that is a clone of `from`, mounted; undefined when it fails. */
  async diff(from: LayerId, id: LayerId): Promise<string | undefined> {
    const answer = await this.#programs.zfs(["diff", "-FH", this.snapshotOf(from), this.nameOf(id)]);
    return answer.refusal === undefined ? answer.stdout : undefined;
  }

  /** Bytes that a layer takes by itself: what it does not share with the snapshot it is a clone of. */
  async usedBytes(id: LayerId): Promise<number> {
    const answer = await this.#programs.zfs(["get", "-H", "-p", "-o", "value", "used", this.nameOf(id)]);
    if (answer.refusal !== undefined) throw zfsError(`measure the dataset ${this.nameOf(id)}`, answer);
    return Number(answer.stdout);
  }

  /** Destroys a trial dataset. */
  async destroyTrial(name: string): Promise<void> {
    await this.#programs.zfsWhenFree(["destroy", this.nameOf(name)]);
  }

  /** All there is below the parent dataset. Errors: unavailable, not_found (the parent). */
  async list(): Promise<Listing> {
    const { parent } = this.#options;
    const columns = ["name", MARK, "origin", "defer_destroy"].join(",");
    const types = ["-d", "2", "-t", "filesystem,snapshot"];
    const answer = await this.#programs.zfs(["list", "-H", "-r", ...types, "-o", columns, parent]);
    if (answer.refusal !== undefined) throw zfsError(`list the datasets below ${parent}`, answer);
    const layers: ListedDataset[] = [];
    const staleTrials: string[] = [];
    for (const line of answer.stdout.split("\n")) {
      const [name = "", mark = "", origin = "-", deferred = "-"] = line.split("\t");
      if (!name.startsWith(`${parent}/`)) continue;
      const below = name.slice(parent.length + 1);
      if (isStaleTrial(below)) staleTrials.push(below);
      const [, id, snapshot] = /^([0-9a-f]{64})(?:@(.+))?$/.exec(below) ?? [];
      const hex = this.#creationIn(mark);
      if (id === undefined || hex === undefined) continue;
      const isDeferred = deferred === "on" || deferred === "yes";
      layers.push({ id, snapshot, hex, origin: origin === "-" ? undefined : origin, isDeferred });
    }
    return { layers, staleTrials };
  }

  /**
   * Gives the snapshots of a layer to the layers that are clones of them, so that it can be destroyed. Snapshots that nothing
   * is a clone of are destroyed first: others than ours may have taken them, under names that the new owner has, too.
   */
  async #handOver(id: string): Promise<void> {
    const { layers: all } = await this.list();
    const prefix = `${this.nameOf(id)}@`;
    const clone = all.find(({ origin, snapshot }) => snapshot === undefined && origin?.startsWith(prefix));
    const origins = new Set(all.map(({ origin }) => origin));
    const mine = all.flatMap((one) => (one.id === id && one.snapshot !== undefined ? [one.snapshot] : []));
    for (const snapshot of mine) if (!origins.has(prefix + snapshot)) await this.destroySnapshot(id, snapshot);
    // Whoever else held it has let go meanwhile.
    if (clone === undefined) return;
    const answer = await this.#programs.zfs(["promote", this.nameOf(clone.id)]);
    if (answer.refusal === "missing") return;
    if (answer.refusal !== undefined) throw zfsError(`promote the clone ${this.nameOf(clone.id)}`, answer);
    for (const snapshot of mine) {
      // Undestroyed as long as this layer, now a clone of it, is there; gone with the last clone.
      if (origins.has(prefix + snapshot)) await this.destroySnapshot(clone.id, snapshot);
    }
  }

  #properties({ mountPoint, quotaBytes, hex }: NewDataset): string[] {
    const { abilities, mounter, homeHex } = this.#options;
    const properties = [
      `${MARK}=${homeHex}-${hex}`,
      ...(mounter === "kernel" ? ["mountpoint=legacy"] : [`mountpoint=${textOfBytes(mountPoint)}`, "canmount=noauto"]),
      // Reading a committed layer must not write to it.
      "atime=off",
      "com.sun:auto-snapshot=false",
      ...(abilities.posixAcl ? ["acltype=posixacl"] : []),
      ...(abilities.xattrInInode ? ["xattr=sa"] : []),
      ...(quotaBytes === undefined ? [] : [`quota=${quotaBytes}`]),
    ];
    return properties.flatMap((property) => ["-o", property]);
  }

  #creationIn(mark: string): string | undefined {
    const prefix = `${this.#options.homeHex}-`;
    return mark.startsWith(prefix) ? mark.slice(prefix.length) : undefined;
  }
}

/** True for a name that {@link snapshotName} gives: others may take snapshots, too. */
export function isSnapshotName(name: string): boolean {
  return /^[0-9a-f]{16}$/.test(name);
}

/** Short, since the names of datasets and their snapshots together are limited to 255 characters. */
export function snapshotName(id: string): string {
  return id.slice(0, 16);
}
