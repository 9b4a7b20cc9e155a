/**
 * Which open files the kernel reads and writes without asking. While one of a node is passed through, all others of it must
 * be, by the same backing ID; while one goes through the kernel's cache, none may be (EIO otherwise). So a lower file of a
 * union that can be written goes through the cache: at its copy-up it would need another backing while it is open.
 *
 * Source: fs/fuse/iomode.c, fs/fuse/passthrough.c.
 */
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import type { Kernel, Opened } from "../file-system.ts";
import { FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH } from "../protocol.ts";
import type { Node } from "./node.ts";

/** How a node's files are open at present; `backing` is 0 where they go through the cache. */
interface Mode {
  readonly backing: number;
  opens: number;
}

export class Passthrough {
  readonly #kernel: Kernel | undefined;
  readonly #modes = new Map<Node, Mode>();
  /** Of these the cache may hold what was before. */
  readonly #passed = new WeakSet<Node>();

  constructor(kernel: Kernel | undefined) {
    this.#kernel = kernel?.passthrough ? kernel : undefined;
  }

  /** Decides on a file that has just been opened. `stays`: its node will not get another file to read from while open. */
  opened(node: Node, handle: number, file: { readonly fd: number; readonly stays: boolean }): Opened {
    const mode = this.#modes.get(node) ?? { backing: file.stays ? this.#back(node, file.fd) : 0, opens: 0 };
    mode.opens++;
    this.#modes.set(node, mode);
    if (mode.backing > 0) return { handle, flags: FOPEN_PASSTHROUGH | FOPEN_NOFLUSH, backing: mode.backing };
    return { handle, flags: this.#passed.has(node) ? FOPEN_NOFLUSH : FOPEN_KEEP_CACHE | FOPEN_NOFLUSH };
  }

  /**
   * The backing ID, or 0 where the kernel takes none of this file system (another union, for one). Passed writes clear set-id
   * bits whoever writes; those of a file that has some are asked for, since root may keep them.
   */
  #back(node: Node, fd: number): number {
    if (this.#kernel === undefined) return 0;
    const stat = raw.statx(fd, "", C.AT_EMPTY_PATH);
    if (typeof stat === "number" || (stat.mode & 0o6000) !== 0) return 0;
    const id = this.#kernel.openBacking(fd);
    if (id <= 0) return 0;
    this.#passed.add(node);
    return id;
  }

  closed(node: Node): void {
    const mode = this.#modes.get(node);
    if (mode === undefined || --mode.opens > 0) return;
    this.#modes.delete(node);
    if (mode.backing > 0) this.#kernel?.closeBacking(mode.backing);
  }
}
