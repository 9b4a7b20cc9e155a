/** What a step thread is told to copy, as plain data. */
import type { LayerView } from "../../drivers/driver.ts";
import type { ByteString } from "../../lib/bytes.ts";

/** Where sources lie: a directory of the host, less what its ignore file names; or the tree of a stage or image. */
export type CopyFrom =
  | {
      readonly kind: "context";
      /** Absolute path of the context. */
      readonly path: ByteString;
      /** Content of the ignore file, "" when there is none. */
      readonly ignore: string;
      /** Its name, for error messages. */
      readonly ignoreName: string;
    }
  | { readonly kind: "layer"; readonly view: LayerView; readonly name: string };

export interface CopySources {
  readonly from: CopyFrom;
  /** As the instruction has them, variables expanded; may be globs. */
  readonly patterns: readonly string[];
  /** Globs, relative to the sources' root, of what is left out. */
  readonly exclude: readonly string[];
}

export interface CopyJob {
  readonly kind: "copy";
  /** The layer written to; mounted volatile. */
  readonly view: LayerView;
  readonly sources: CopySources;
  /** Files of the Dockerfile itself. */
  readonly files: readonly { readonly name: string; readonly content: string }[];
  /** Absolute; ends with `/` when it must be a directory. */
  readonly destination: string;
  readonly chown: string | undefined;
  /** Copies have the owners of their sources: as Docker's classic builder does for --from without --chown. */
  readonly keepOwners: boolean;
  /** Permission bits of everything copied. */
  readonly mode: number | undefined;
  /** Unpack sources that are archives. */
  readonly unpack: boolean;
  /** Latest modification time given to a copy, in seconds. */
  readonly clampMtimeSec: number | undefined;
}

/** Digest of sources: names, types, modes, link targets, devices, content; not times and owners, which copies do not take. */
export interface DigestJob {
  readonly kind: "digest";
  readonly sources: CopySources;
}

/** Makes a directory and those missing above it, as WORKDIR does. */
export interface DirectoryJob {
  readonly kind: "directory";
  readonly view: LayerView;
  readonly path: ByteString;
}

export interface CopyReport {
  readonly entries: number;
  readonly bytes: number;
  /** See ContainerExit.unchanged. */
  readonly unchanged: boolean | undefined;
}
