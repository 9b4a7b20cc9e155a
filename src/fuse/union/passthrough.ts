/**
 * Which open files the kernel reads and writes without asking. While one of an inode is passed through, all others of it must
 * be, by the same backing ID; while one goes through the kernel's cache, none may be (EIO otherwise).
 *
 * So a file of a lower layer goes through the cache where it can be copied up: its copy would need another backing while it is
 * open, and whoever opened it before has to see what is written to the copy. That is given up for large files alone, where
 * reading them twice into memory costs most. When such a file is opened for writing while others read it, the kernel gets a
 * new inode for it (`isOutdated`; ./files.ts): those who had it open go on reading what was there before, and their locks
 * do not meet the locks of those who come after.
 *
 * Source: fs/fuse/iomode.c, fs/fuse/passthrough.c.
 */
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import type { Stat } from "../../sys/syscalls.ts";
import { type Kernel, type Opened, STORE_MAX } from "../file-system.ts";
import { FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH } from "../protocol.ts";
import type { Node } from "./node.ts";

/** Lower files of at least so many bytes are passed through though they can be copied up. */
const LARGE = 256 * 1024 * 1024;

/** How an inode's files are open at present; `backing` is 0 where they go through the cache. */
interface Mode {
  readonly backing: number;
  /** The backing is a file of a lower layer. */
  readonly lower: boolean;
  /** A lower file that goes through the cache, and small enough to be put there. */
  readonly small: boolean;
  opens: number;
}

interface OpenedFile {
  readonly fd: number;
  /** `stays`: its node will not get another file to read from while it is open. `within`: it is a part of another file. */
  readonly from: "stays" | "lower" | "within";
  /** Where it is known. */
  readonly mode: number | undefined;
}

export class Passthrough {
  readonly #kernel: Kernel | undefined;
  /** By the ID of the node. */
  readonly #modes = new Map<number, Mode>();

  constructor(kernel: Kernel | undefined) {
    this.#kernel = kernel;
  }

  /** Decides on a file that has just been opened; `closed` is to be told the node's present ID. */
  opened(node: Node, handle: number, file: OpenedFile): Opened {
    const mode = this.#modes.get(node.id) ?? this.#begin(node, file);
    if (mode.small && mode.opens === 0 && !node.wasPassed) this.#store(node, file.fd);
    mode.opens++;
    if (mode.backing > 0) return { handle, flags: FOPEN_PASSTHROUGH | FOPEN_NOFLUSH, backing: mode.backing };
    return { handle, flags: node.wasPassed ? FOPEN_NOFLUSH : FOPEN_KEEP_CACHE | FOPEN_NOFLUSH };
  }

  #begin(node: Node, file: OpenedFile): Mode {
    const stat = file.mode === undefined ? raw.statx(file.fd, "", C.AT_EMPTY_PATH) : { mode: file.mode, size: 0 };
    const lower = file.from === "lower";
    const backing = typeof stat === "number" ? 0 : this.#back(node, file, stat);
    const small =
      !node.upper && backing === 0 && file.from !== "within" && typeof stat !== "number" && stat.size <= STORE_MAX;
    const mode = { backing, lower, small, opens: 0 };
    this.#modes.set(node.id, mode);
    return mode;
  }

  /** Hands over the content of a lower file that is opened for the first time. */
  #store(node: Node, fd: number): void {
    if (node.isStored) return;
    node.isStored = true;
    this.#kernel?.store(node.id, fd);
  }

  /** True when a node has moved to the upper layer while the kernel passes files of it through to a lower one. */
  isOutdated(node: Node): boolean {
    const mode = this.#modes.get(node.id);
    return mode?.lower === true && mode.backing > 0 && node.upper && !node.isMetacopy;
  }

  /** The kernel is told to ask anew. */
  forgetAttributes(node: number): void {
    this.#kernel?.attributesChanged(node);
  }

  /**
   * The backing ID, or 0 where the kernel takes none of this file system (another union, for one). Passed writes clear set-id
   * bits whoever writes; those of a file that has some are asked for, since root may keep them.
   */
  #back(node: Node, { fd, from }: OpenedFile, { mode, size }: Pick<Stat, "mode" | "size">): number {
    if (!this.#kernel?.passthrough || from === "within" || (mode & 0o6000) !== 0) return 0;
    if (from === "lower" && size < LARGE) return 0;
    const id = this.#kernel.openBacking(fd);
    if (id <= 0) return 0;
    node.wasPassed = true;
    return id;
  }

  /** `id`: of the node when it was opened. */
  closed(id: number): void {
    const mode = this.#modes.get(id);
    if (mode === undefined || --mode.opens > 0) return;
    this.#modes.delete(id);
    if (mode.backing > 0) this.#kernel?.closeBacking(mode.backing);
  }
}
