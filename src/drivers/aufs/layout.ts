/**
 * What lies under the home directory: Docker's layout of aufs.
 *
 *     <home>/                        0710
 *       layers/<id>                  0644   ids of the layers below, a line each, the parent first; empty for a base layer.
 *                                           A layer exists when it has this file.
 *       diff/<id>/                          the layer's branch
 *       mnt/<id>/                    0700   the mount point; only while mounted
 *       diff/.<id>-removing-<hex>/          an unfinished removal
 *       .lamella/                    0700   ours
 *         layers/<id>                       what is noted of a layer (../layer-records.ts): `sealed`; `form overlay` or `form mixed`
 *         marks/<id>/                       what overlayfs must be told of a committed branch (./marks.ts)
 *         work/<id>/                        overlay's work directory
 *         lock, probes.json, mounts/, creating-<hex>
 *
 * Docker's source: daemon/graphdriver/aufs/aufs.go. docs/formats/aufs.md has more on each.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { LayerId } from "../driver.ts";
import { noSuchLayer } from "../layer-errors.ts";
import { isLayerId } from "../layer-id.ts";
import { readSmallFile } from "../small-file.ts";

/** Folders of a home, with their modes. */
export const aufsFolders = [
  ["", 0o710],
  ["/layers", 0o700],
  ["/diff", 0o700],
  ["/mnt", 0o700],
  ["/.lamella", 0o700],
  ["/.lamella/layers", 0o700],
  ["/.lamella/marks", 0o700],
  ["/.lamella/work", 0o700],
  ["/.lamella/mounts", 0o700],
] as const;

export class Layout {
  readonly home: ByteString;

  constructor(home: ByteString) {
    this.home = home;
  }

  layers(id: string): ByteString {
    return `${this.home}/layers/${id}`;
  }

  branch(id: string): ByteString {
    return `${this.home}/diff/${id}`;
  }

  mountPoint(id: string): ByteString {
    return `${this.home}/mnt/${id}`;
  }

  marks(id: string): ByteString {
    return `${this.home}/.lamella/marks/${id}`;
  }

  work(id: string): ByteString {
    return `${this.home}/.lamella/work/${id}`;
  }

  state(name: string): ByteString {
    return `${this.home}/.lamella/${name}`;
  }

  exists(id: string): boolean {
    return isLayerId(id) && sys.statIfExists(AT_FDCWD, this.layers(id)) !== undefined;
  }

  /** IDs of all layers below, the parent first. Errors: not_found, data_loss. */
  ancestors(id: string): LayerId[] {
    const text = isLayerId(id) ? readSmallFile(this.layers(id)) : undefined;
    if (text === undefined) throw noSuchLayer(id, this.home);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        if (isLayerId(line)) return line;
        throw new LamellaError("data_loss", "LAYER_DAMAGED", `layer ${id}: ${textOfBytes(this.layers(id))} is wrong`, {
          hint: "run `lamella check`",
        });
      });
  }
}

/** The content of a layer's file in `layers/`. */
export function layersText(ancestors: readonly LayerId[]): ByteString {
  return ancestors.map((id) => `${id}\n`).join("");
}
