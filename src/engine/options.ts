/** The options and results of the Engine's methods that are not the store's own. */
import type { BuildOptions as BuilderOptions } from "../build/builder.ts";
import type { Platform } from "../oci/platform.ts";
import type { ImportOptions as StoreImportOptions } from "../store/import-root.ts";
import type { LoadOptions as StoreLoadOptions } from "../store/load.ts";
import type { SaveOptions as StoreSaveOptions } from "../store/save.ts";
import type { CommitOptions as StoreCommitOptions, StoreOptions } from "../store/store.ts";
import type { HostFacts } from "./host.ts";

export type { EndedMigration } from "../migrate/finish.ts";
export type { MigrationProgress, MigrationReport } from "../migrate/report.ts";
export type { CheckOptions, GcOptions } from "../store/store.ts";

export interface EngineOptions extends StoreOptions {
  /** Say so when `build` or `run` comes next: what they need is started while the store opens. */
  readonly forSteps?: boolean | undefined;
}

export type InfoOptions = Pick<StoreOptions, "root" | "driver" | "driverOptions">;

/** What is known of a root, its driver, and the host. */
export interface EngineInfo {
  /** Absolute path of the store. */
  readonly root: string;
  readonly driver: string;
  /** Ordered pairs, as `docker info` prints them for the driver. */
  readonly status: readonly (readonly [string, string])[];
  /** Further ordered pairs: the options of overlay mounts, the parameters of the kernel module. */
  readonly details: readonly (readonly [string, string])[];
  readonly host: HostFacts;
}

export interface ImportOptions extends Omit<StoreImportOptions, "tags" | "platform"> {
  /** A root directory, the path of a tar, or the bytes of one. */
  readonly source: string | AsyncIterable<Uint8Array>;
  /** `name[:tag]`. */
  readonly name?: string | undefined;
  /** `os/architecture[/variant]`; default: the host's. */
  readonly platform?: string | Platform | undefined;
}

export interface LoadOptions extends Omit<StoreLoadOptions, "platform"> {
  /** Path of an archive or an OCI layout, or the bytes of an archive. */
  readonly input: string | AsyncIterable<Uint8Array>;
  /** Which image of a multi-platform index; default: the host's. */
  readonly platform?: string | Platform | undefined;
}

export interface SaveOptions extends StoreSaveOptions {
  readonly images: readonly string[];
  /** A path that appears when it is complete, or a sink of bytes (archives only). */
  readonly output: string | ((chunk: Uint8Array) => Promise<void>);
}

export interface BuildOptions extends Omit<BuilderOptions, "store" | "threads"> {
  /** Where programs of the host (crun, runc) are looked for: the directories of PATH. */
  readonly searchPath: readonly string[];
  /** What runs the commands; default: crun if it is installed, else runc, else the built-in sandbox. */
  readonly runtime?: "crun" | "runc" | "builtin" | undefined;
}

export interface CreateOptions {
  readonly image: string;
  /** Letters, digits, `_`, `.`, `-`. */
  readonly name?: string | undefined;
  /** Limit of the writable layer, on drivers with quota; 0: none. */
  readonly sizeBytes?: number | undefined;
}

export interface CommitOptions extends Omit<StoreCommitOptions, "tags"> {
  /** `name[:tag]`. */
  readonly name?: string | undefined;
}

export interface ListOptions {
  /** All below the directory too. */
  readonly recursive?: boolean | undefined;
  /** Look only at what the lowest so many layers hold together. */
  readonly layers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** `A` added, `C` changed, `D` deleted, as `docker diff` prints. */
export interface FileChange {
  readonly kind: "A" | "C" | "D";
  readonly path: string;
}
