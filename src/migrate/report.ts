/** What a migration tells while it runs and at its end. */
import type { Digest } from "../oci/digest.ts";
import type { LayerProgress } from "./layer-mover.ts";

/** A thing and what there is to say about it. */
export interface Note {
  /** A tag, an ID, a path. */
  readonly subject: string;
  readonly message: string;
}

export interface MovedImage {
  readonly id: Digest;
  readonly tags: readonly string[];
  /** The ID it had before, where it could not be kept. */
  readonly formerId?: Digest;
}

export interface MovedContainer {
  readonly id: string;
  readonly name: string | undefined;
}

export interface MigrationReport {
  /** Nothing was done: the rest tells what would be. */
  readonly dryRun: boolean;
  readonly images: readonly MovedImage[];
  readonly containers: readonly MovedContainer[];
  readonly layers: {
    /** All that the images and containers need. */
    readonly count: number;
    /** Those that were not at the destination before. */
    readonly made: number;
    /** Length of their tars, or what Docker counts for them in a dry run. */
    readonly madeBytes: number;
    /** Bytes among them that share their data with the source's. */
    readonly sharedBytes: number;
  };
  /** What could not be moved, and why. */
  readonly leftOut: readonly Note[];
  /** What is worth knowing. */
  readonly notes: readonly Note[];
}

export type MigrationProgress =
  | ({ readonly kind: "layer" } & LayerProgress)
  | { readonly kind: "container"; readonly container: MovedContainer; readonly event: "done" | "exists" };
