/**
 * Real block-level clones for tests: subvolumes and snapshots of a btrfs on a loop device, or ext4 images that are copied.
 * In a clone every object has the inode number and change time it had. Mounted in this thread's private mount namespace;
 * everything is unmounted and removed on disposal.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClockStamp, takeClockStamp } from "../../src/diff/clock-stamp.ts";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";

export type CloneKind = "btrfs" | "ext4";

/** A tree that began as a clone of another. */
export interface ClonedTree {
  readonly parent: string;
  readonly tree: string;
  readonly clock: ClockStamp;
}

/** Lets so much time pass that what was done before counts as done before the next stamp. */
export function settle(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 40);
}

/** `ext4`: with inodes of 256 bytes; those of 128 bytes (`small`) keep whole seconds. */
export class CloneLab implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "lamella-clones-"));
  readonly #kind: CloneKind;
  readonly #mounted: string[] = [];
  #count = 0;

  constructor(kind: CloneKind, options: { readonly small?: boolean } = {}) {
    this.#kind = kind;
    const image = this.#image(0);
    run("truncate", "-s", kind === "btrfs" ? "512M" : "16M", image);
    if (kind === "btrfs") {
      run("mkfs.btrfs", "-q", image);
      this.#mount(image, join(this.directory, "volume"));
      run("btrfs", "-q", "subvolume", "create", this.#tree(0));
    } else {
      run("mkfs.ext4", "-q", "-I", options.small ? "128" : "256", image);
      this.#mount(image, join(this.directory, "0"));
      mkdirSync(this.#tree(0));
    }
  }

  /** The newest tree. */
  get tree(): string {
    return this.#tree(this.#count);
  }

  /** Clones the newest tree. The clone is the newest from now on. */
  clone(): ClonedTree {
    const parent = this.tree;
    const clock = takeClockStamp(this.directory);
    const from = this.#count++;
    if (this.#kind === "btrfs") run("btrfs", "-q", "subvolume", "snapshot", parent, this.tree);
    else {
      this.#unmount(join(this.directory, String(from)));
      run("cp", "--sparse=always", this.#image(from), this.#image(from + 1));
      for (const i of [from, from + 1]) this.#mount(this.#image(i), join(this.directory, String(i)));
    }
    return { parent, tree: this.tree, clock };
  }

  /** Goes back to the first tree: the next clone is one of it. */
  rewind(): void {
    for (; this.#count > 0; this.#count--) {
      if (this.#kind === "btrfs") run("btrfs", "-q", "subvolume", "delete", this.tree);
      else this.#unmount(join(this.directory, String(this.#count)));
    }
  }

  [Symbol.dispose](): void {
    for (const target of this.#mounted.splice(0).reverse()) raw.umount2(target, C.MNT_DETACH);
    rmSync(this.directory, { recursive: true });
  }

  #image(index: number): string {
    return join(this.directory, `image${index}`);
  }

  #tree(index: number): string {
    return this.#kind === "btrfs"
      ? join(this.directory, "volume", String(index))
      : join(this.directory, String(index), "root");
  }

  #mount(image: string, target: string): void {
    mkdirSync(target, { recursive: true });
    // The loop device goes when it is unmounted.
    run("mount", "-o", "loop", image, target);
    this.#mounted.push(target);
  }

  #unmount(target: string): void {
    sys.umount2(target, 0);
    this.#mounted.splice(this.#mounted.lastIndexOf(target), 1);
  }
}

function run(...command: readonly [string, ...string[]]): void {
  const [file, ...args] = command;
  execFileSync(file, args, { stdio: ["ignore", "ignore", "pipe"] });
}
