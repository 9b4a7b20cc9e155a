/**
 * What lies under the home directory: the layout of Docker's old driver overlay, where what is committed is a whole tree of
 * hard links.
 *
 *     <home>/                        0710
 *       <id>/                        0710   a layer, 64 hexadecimal digits
 *         root/                             its whole tree: of a base layer, of one that a tar was unpacked into, and of every
 *                                           layer that has children. What did not change is the parent's own inode.
 *         upper/                            what was written to the layer, over the parent's `root`
 *         lower-id                   0644   the parent; not there for a base layer
 *         work/                      0700   overlay's work directory
 *         merged/                    0700   the mount point; only while mounted
 *         committed                  0600   ours: the layer is read-only for ever; `upper` when `upper` has all its changes
 *         over/                             ours: what was written, over its own `root`, after a tar was unpacked
 *         tmproot-<hex>/                    a `root` in the making
 *       .<id>-creating-<hex>/               an unfinished creation; .<id>-removing-<hex>/ an unfinished removal
 *       .lamella/                    0700   ours: `lock`, `probes.json`, `mounts/`, `creating-<hex>` (locked while a root is made)
 *
 * Docker's source: daemon/graphdriver/overlay/overlay.go. docs/formats/overlay.md tells how a layer changes its form.
 */

import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { LayerId } from "../driver.ts";
import { noSuchLayer } from "../layer-errors.ts";
import { LayerFolders, namesIn } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { readSmallFile } from "../small-file.ts";

/** Folders of a home, with their modes. */
export const overlayFolders = [
  ["", 0o710],
  ["/.lamella", 0o700],
  ["/.lamella/mounts", 0o700],
] as const;

export class Layout extends LayerFolders {
  root(id: string): ByteString {
    return `${this.home}/${id}/root`;
  }

  upper(id: string): ByteString {
    return `${this.home}/${id}/upper`;
  }

  over(id: string): ByteString {
    return `${this.home}/${id}/over`;
  }

  merged(id: string): ByteString {
    return `${this.home}/${id}/merged`;
  }

  hasRoot(id: string): boolean {
    return isThere(this.root(id));
  }

  hasOver(id: string): boolean {
    return isThere(this.over(id));
  }

  isCommitted(id: string): boolean {
    return isThere(`${this.layer(id)}/committed`);
  }

  /** True when `upper` has all changes of the layer to its parent. */
  isUpper(id: string): boolean {
    return !this.hasRoot(id) || readSmallFile(`${this.layer(id)}/committed`) === "upper";
  }

  /** Errors: not_found, data_loss. */
  parentOf(id: string): LayerId | undefined {
    const parent = readSmallFile(`${this.layer(id)}/lower-id`);
    if (parent !== undefined && isLayerId(parent)) return parent;
    if (!this.exists(id)) throw noSuchLayer(id, this.home);
    if (parent === undefined && this.hasRoot(id)) return undefined;
    throw new LamellaError("data_loss", "LAYER_DAMAGED", `layer ${id}: its file \`lower-id\` is missing or wrong`, {
      hint: `run \`lamella check\`; the layer is ${textOfBytes(this.layer(id))}`,
    });
  }

  /** Roots in the making, of all layers: the paths and what tells them apart. */
  tmproots(): { readonly path: ByteString; readonly hex: string }[] {
    return this.list().flatMap((id) =>
      namesIn(this.layer(id)).flatMap((name) => {
        const hex = /^tmproot-([0-9a-f]+)$/.exec(name)?.[1];
        return hex === undefined ? [] : [{ path: `${this.layer(id)}/${name}`, hex }];
      }),
    );
  }
}

function isThere(path: ByteString): boolean {
  return sys.statIfExists(AT_FDCWD, path) !== undefined;
}
