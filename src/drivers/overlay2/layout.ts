/**
 * What lies under the home directory: Docker's layout of overlay2, so that Docker's tools and people's habits apply.
 *
 *     <home>/                        0710
 *       l/                           0700   short names, so that many layers fit a mount's options
 *         <26 of A-Z2-7>             → ../<id>/diff
 *       <id>/                        0710   a layer, 64 hexadecimal digits
 *         diff/                             the layer's own tree: the upper directory, later a lower one
 *         link                       0644   the layer's name under l/
 *         lower                      0644   l/A:l/B:…, the uppermost first; only with a parent
 *         work/                      0700   overlay's work directory; only with a parent
 *         merged/                    0700   the mount point; only while mounted
 *         committed                  0600   empty: the layer has children or was sealed, and is read-only for ever
 *         options                    0644   ours: the mount options this layer's tree needs from now on, as `redirect_dir=on,metacopy=on`
 *       .<id>-creating-<hex>/               an unfinished creation; .<id>-removing-<hex>/ an unfinished removal
 *       .lamella/                    0700   ours: `lock`, `probes.json`, `mounts/`
 *
 * Docker's source: daemon/graphdriver/overlay2/overlay.go. docs/formats/overlay2.md has more on each file.
 */
import { randomBytes } from "node:crypto";
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { LayerId } from "../driver.ts";
import { LayerFolders } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { readSmallFile } from "../small-file.ts";

const ENOENT = 2;
const EINVAL = 22;
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** Folders of a home, with their modes. */
export const linkedFolders = [
  ["", 0o710],
  ["/l", 0o700],
  ["/.lamella", 0o700],
  ["/.lamella/mounts", 0o700],
] as const;

/** A new random name for a layer under `l/`. */
export function newLinkName(): string {
  return [...randomBytes(26)].map((byte) => alphabet[byte % 32]).join("");
}

/** The paths of one home, and the relations its small files hold. */
export class Layout extends LayerFolders {
  diff(id: string): ByteString {
    return `${this.home}/${id}/diff`;
  }

  merged(id: string): ByteString {
    return `${this.home}/${id}/merged`;
  }

  isCommitted(id: string): boolean {
    return sys.statIfExists(AT_FDCWD, `${this.layer(id)}/committed`) !== undefined;
  }

  /** The layer's name under `l/`. Errors: not_found for a layer that does not exist, data_loss for a damaged one. */
  link(id: string): string {
    const link = readSmallFile(`${this.layer(id)}/link`);
    if (link !== undefined && /^[A-Z2-7]{26}$/.test(link)) return link;
    if (this.exists(id)) throw damaged(id, "its file `link` is missing or wrong");
    throw new LamellaError("not_found", "LAYER_NOT_FOUND", `no layer ${id} in ${textOfBytes(this.home)}`);
  }

  /** `l/X` of every layer below, the uppermost first; empty for a base layer. */
  lowerNames(id: string): string[] {
    const lower = readSmallFile(`${this.layer(id)}/lower`);
    if (lower === undefined || lower === "") {
      if (!this.exists(id))
        throw new LamellaError("not_found", "LAYER_NOT_FOUND", `no layer ${id} in ${textOfBytes(this.home)}`);
      return [];
    }
    const names = lower.split(":");
    for (const name of names) if (!/^l\/[A-Z2-7]{26}$/.test(name)) throw damaged(id, "its file `lower` is wrong");
    return names;
  }

  /** The layer that `l/X` stands for; undefined when the link is not there. */
  idOfName(name: string): LayerId | undefined {
    const target = raw.readlinkat(AT_FDCWD, `${this.home}/${name}`);
    if (target === -ENOENT || target === -EINVAL) return undefined;
    if (typeof target === "number") throw new SyscallError("readlinkat", -target, textOfBytes(`${this.home}/${name}`));
    const id = /^\.\.\/([^/]+)\/diff$/.exec(target)?.[1] ?? "";
    return isLayerId(id) ? id : undefined;
  }

  /** IDs of all layers below, the uppermost first. Errors: data_loss when one is missing. */
  ancestors(id: string): LayerId[] {
    return this.lowerNames(id).map((name) => {
      const below = this.idOfName(name);
      if (below === undefined) throw damaged(id, `the layer ${name} below it is missing`);
      return below;
    });
  }
}

function damaged(id: string, what: string): LamellaError {
  return new LamellaError("data_loss", "LAYER_DAMAGED", `layer ${id}: ${what}`, { hint: "run `lamella check`" });
}
