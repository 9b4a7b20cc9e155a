/**
 * What is known of a tree that began as a clone of its parent's: every object had the parent's inode number and change time,
 * and what was done to it since has set its change time to a later moment (./clock-stamp.ts). So an object whose change
 * time is before the clone *is* the parent's object of that inode number, and a directory has the same names, which stand
 * for the same inode numbers.
 *
 * What moves takes its change time along. Of what is found at a path, therefore, the inode number must be the parent's at
 * that path: in a directory that is calm (not changed, and itself where the parent has it) that is a matter of course; in
 * any other it is looked up. Renaming, linking and removing change the directories concerned, so none of them is calm; a
 * directory that was moved has another number than the parent's at that path, or the parent has none there, and with it all
 * that is below. An inode number that was freed and given out again has a new change time.
 */
import { BOTH, CALM, type Marker } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { Stat } from "../sys/syscalls.ts";
import { type ClockStamp, SettledTimes } from "./clock-stamp.ts";
import { type Device, isOn } from "./trees-device.ts";
import type { Known } from "./trees-known.ts";

export interface KnownOfClone {
  readonly kind: "clone";
  readonly clock: ClockStamp;
  /** The devices of the two roots. What lies on others is mounted there, or a subvolume of its own: nothing is known of it. */
  readonly tree: Device;
  readonly parent: Device;
}

export class CloneKnown implements Known {
  readonly #settled: SettledTimes;
  readonly #tree: Device;
  readonly #parent: Device;

  constructor({ clock, tree, parent }: KnownOfClone) {
    this.#settled = new SettledTimes(clock);
    this.#tree = tree;
    this.#parent = parent;
  }

  root(a: Stat, b: Stat): Marker {
    return this.marker("", a, b);
  }

  enter(): void {}

  sameEntry(): boolean {
    return false;
  }

  same(_name: ByteString, a: Stat, b: Stat | undefined): boolean {
    if (!isOn(a, this.#tree) || !this.#settled.has(a)) return false;
    return b === undefined || (isOn(b, this.#parent) && a.inoLow === b.inoLow && a.inoHigh === b.inoHigh);
  }

  marker(name: ByteString, a: Stat, b: Stat | undefined): Marker {
    return this.same(name, a, b) ? CALM : BOTH;
  }

  parentInode(_name: ByteString, a: Stat, b: Stat | undefined): string {
    if (b === undefined) return `${a.inoHigh}:${a.inoLow}`;
    return isOn(b, this.#parent) ? `${b.inoHigh}:${b.inoLow}` : `${b.inoHigh}:${b.inoLow}:${b.devMajor}:${b.devMinor}`;
  }
}
