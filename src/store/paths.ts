/** Where things lie under a store's root, for one driver. Texts; `bytesOfText` of them goes to system calls. */
import { mkdirSync } from "node:fs";
import type { LayerId } from "../drivers/driver.ts";
import { algorithmOf, type Digest, hexOf } from "../oci/digest.ts";

export class StorePaths {
  readonly root: string;
  readonly meta: string;
  readonly blobs: string;
  readonly driverHome: string;
  readonly records: string;
  readonly spills: string;
  readonly locks: string;
  readonly temporary: string;

  constructor(root: string, driver: string) {
    this.root = root;
    this.meta = StorePaths.metaOf(root);
    this.blobs = `${root}/blobs`;
    this.driverHome = `${root}/${driver}`;
    this.records = `${root}/records/${driver}`;
    this.spills = `${root}/spill/${driver}`;
    this.locks = this.locksOf(driver);
    this.temporary = `${root}/tmp`;
  }

  /** The LMDB directory, which is known before the driver is. */
  static metaOf(root: string): string {
    return `${root}/meta`;
  }

  /** Makes all directories; nobody but the owner reads them, group members may pass through as Docker's may. */
  make(): void {
    for (const path of [`${this.blobs}/sha256`, this.records, this.spills, this.locks, this.temporary])
      mkdirSync(path, { recursive: true, mode: 0o710 });
  }

  locksOf(driver: string): string {
    return `${this.root}/locks/${driver}`;
  }

  record(layer: LayerId): string {
    return `${this.records}/${layer}`;
  }

  spill(layer: LayerId): string {
    return `${this.spills}/${layer}`;
  }

  blob(digest: Digest): string {
    return `${this.blobs}/${algorithmOf(digest)}/${hexOf(digest)}`;
  }
}
