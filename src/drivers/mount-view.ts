/** Mounting a layer's view: from data a driver gave, in any thread, in whatever mount namespace that thread is. */
import { LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { attachMount, bindMount, umount } from "../fs/mounts.ts";
import { MAX_LOWERS, type MountApi, mountOverlay } from "../fs/overlay-mount.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { disposable } from "../lib/disposables.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { LayerView, OverlayOptions } from "./driver.ts";

/** The options as the kernel takes them, one string each. */
export function overlayOptionStrings(options: OverlayOptions): string[] {
  const strings: string[] = [];
  if (options.index !== undefined) strings.push(`index=${options.index}`);
  if (options.redirectDir !== undefined) strings.push(`redirect_dir=${options.redirectDir}`);
  if (options.metacopy !== undefined) strings.push(`metacopy=${options.metacopy}`);
  if (options.userxattr) strings.push("userxattr");
  if (options.volatile) strings.push("volatile");
  return strings;
}

/** Shows a directory view at the directory `target`. */
export function bindView(view: Extract<LayerView, { kind: "directory" }>, target: ByteString): void {
  const { readOnly } = view;
  if (view.mountFd === undefined) bindMount(view.path, target, { readOnly });
  else attachMount(view.mountFd, target, { readOnly });
}

/**
 * Mounts `view` at the directory `target`; disposing unmounts it (and detaches it when it stays busy). A directory view is
 * bound there, so that a read-only one refuses writes. Synchronous.
 */
export function mountView(view: LayerView, target: ByteString, api: MountApi = "auto"): Disposable {
  if (view.kind === "directory") {
    bindView(view, target);
  } else {
    if (view.lowers.length > MAX_LOWERS)
      throw new LamellaError(
        "failed_precondition",
        "MAX_DEPTH",
        `${textOfBytes(target)}: the kernel stacks at most ${MAX_LOWERS} layers, these are ${view.lowers.length}`,
        { hint: "squash the image, or build it in fewer steps" },
      );
    const { lowers, upper, work } = view;
    // What a volatile mount leaves, so that nobody takes its upper for durable. Here the store sees to that.
    if (work !== undefined) clearVolatile(work);
    try {
      mountOverlay({ lowers, upper, work, options: overlayOptionStrings(view.options) }, target, api);
    } catch (error) {
      throw hasCode(error, "ENOENT") ? missingLayer(view.lowers, error) : error;
    }
  }
  return disposable(() => void umount(target));
}

/** `work`: a work directory. */
export function clearVolatile(work: ByteString): void {
  const mark = `${work}/work/incompat/volatile`;
  if (sys.statIfExists(AT_FDCWD, mark) !== undefined) removeTree(mark);
}

function missingLayer(lowers: readonly ByteString[], cause: unknown): unknown {
  if (!(cause instanceof LamellaError)) return cause;
  return new LamellaError(
    "data_loss",
    "LAYER_MISSING",
    `${cause.message}: one of ${lowers.length} layer directories is missing`,
    { hint: "run `lamella check`", cause },
  );
}
