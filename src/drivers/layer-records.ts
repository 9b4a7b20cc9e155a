/**
 * What drivers of whole trees note of each layer, a file a layer: `<folder>/<id>`, mode 0644, a line `key value` or `key` a fact.
 *
 *     parent <id>        the layer it was made on; absent for a base layer
 *     sealed             it is read-only for ever
 *     ...                what one driver needs to know besides
 *
 * Files are replaced whole (rename), so a reader never sees a part of one.
 */
import { writeDurably } from "../fs/durable-file.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { LayerId } from "./driver.ts";
import { isLayerId } from "./layer-id.ts";
import { readSmallFile } from "./small-file.ts";

export interface LayerFacts {
  readonly parent: LayerId | undefined;
  readonly sealed: boolean;
  /** Further facts of the driver's own, by key. Keys and values hold no newline, keys no space. */
  readonly more: ReadonlyMap<string, ByteString>;
}

const noFacts: ReadonlyMap<string, ByteString> = new Map();

/** Facts of a layer just made. */
export function newFacts(parent: LayerId | undefined, more = noFacts): LayerFacts {
  return { parent, sealed: false, more };
}

export class LayerRecords {
  readonly #folder: ByteString;

  /** `folder` exists and holds nothing else. */
  constructor(folder: ByteString) {
    this.#folder = folder;
  }

  has(id: string): boolean {
    return isLayerId(id) && sys.statIfExists(AT_FDCWD, this.#path(id)) !== undefined;
  }

  /** What is noted; for a layer without a file (somebody else made it) neither parent nor seal. */
  read(id: LayerId): LayerFacts {
    const facts = new Map<string, ByteString>();
    for (const line of (readSmallFile(this.#path(id)) ?? "").split("\n")) {
      const space = line.indexOf(" ");
      if (line !== "") facts.set(space < 0 ? line : line.slice(0, space), space < 0 ? "" : line.slice(space + 1));
    }
    const parent = facts.get("parent") ?? "";
    const sealed = facts.has("sealed");
    facts.delete("parent");
    facts.delete("sealed");
    return { parent: isLayerId(parent) ? parent : undefined, sealed, more: facts };
  }

  write(id: LayerId, { parent, sealed, more }: LayerFacts, options: { readonly durable?: boolean } = {}): void {
    const lines = [
      ...(parent === undefined ? [] : [`parent ${parent}`]),
      ...(sealed ? ["sealed"] : []),
      ...[...more].map(([key, value]) => (value === "" ? key : `${key} ${value}`)),
    ];
    const content = lines.map((line) => `${line}\n`).join("");
    writeDurably(this.#path(id), content, { durable: options.durable ?? false });
  }

  /** Forgets a layer; it need not be known. */
  remove(id: string): void {
    sys.unlinkIfExists(AT_FDCWD, this.#path(id));
  }

  /** Names of all files, which are layers' ids where nothing went wrong. */
  names(): string[] {
    using directory = sys.open(this.#folder, O_RDONLY | O_DIRECTORY);
    return sys.readdir(directory.fd).map((entry) => entry.name);
  }

  #path(id: string): ByteString {
    return `${this.#folder}/${id}`;
  }
}
