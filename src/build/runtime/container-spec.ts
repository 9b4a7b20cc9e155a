/** What a container is asked to be, as plain data that crosses to the thread that runs it. */
import type { LayerView } from "../../drivers/driver.ts";
import type { ByteString } from "../../lib/bytes.ts";

/** Where a bind mount takes its content from: a path of the host, a path resolved inside a directory, or inside a layer. */
export type MountSource =
  | { readonly kind: "host"; readonly path: ByteString }
  | { readonly kind: "directory"; readonly root: ByteString; readonly path: ByteString }
  | { readonly kind: "layer"; readonly view: LayerView; readonly path: ByteString };

/** A mount the container gets beyond the usual ones. Targets are resolved inside its root; missing ones are made. */
export type ContainerMount =
  | {
      readonly kind: "bind";
      readonly source: MountSource;
      readonly target: ByteString;
      readonly readOnly: boolean;
    }
  | {
      readonly kind: "tmpfs";
      readonly target: ByteString;
      readonly sizeBytes?: number | undefined;
      /** Permission bits, default 0o1777. */
      readonly mode?: number | undefined;
    }
  | {
      /** A file of this content, for secrets and scripts. */
      readonly kind: "file";
      readonly content: Uint8Array;
      readonly target: ByteString;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    };

/** Who runs the container: an OCI runtime on this host, or Lamella's own sandbox. */
export type RuntimeEngine = { readonly kind: "crun" | "runc"; readonly path: string } | { readonly kind: "builtin" };

export type ContainerNetwork = "host" | "none";

export interface ContainerSpec {
  /** The root file system. Mounted where only the container and the thread that starts it see it. */
  readonly root: LayerView;
  /**
   * The layer is written once and made durable by whoever publishes it: fsync inside the container does nothing, and
   * unmounting flushes nothing. The layer must not be mounted writable again afterwards.
   */
  readonly volatile?: boolean | undefined;
  /** Mount the root read-only for the container. */
  readonly readOnly?: boolean | undefined;
  /** The command; the first is looked up in the PATH of `env` inside the root. */
  readonly args: readonly string[];
  /** `NAME=value`. PATH, HOSTNAME and HOME are added where they are missing. */
  readonly env: readonly string[];
  /** Absolute; made (mode 0755, owned by root) when it is missing. Default `/`. */
  readonly cwd?: string | undefined;
  /** `name`, `uid`, `name:group`, `uid:gid` ...; names are those of the root's /etc/passwd and /etc/group. Default root. */
  readonly user?: string | undefined;
  readonly network: ContainerNetwork;
  readonly hostname?: string | undefined;
  readonly mounts?: readonly ContainerMount[] | undefined;
  /** Give the container a terminal; only with `stdio: "inherit"`, when standard input is one. */
  readonly tty?: boolean | undefined;
  /** `inherit`: the process's own; `pipe`: nothing to read, output as chunks. Default `pipe`. */
  readonly stdio?: "inherit" | "pipe" | undefined;
  /** With `pipe`: what the container reads from standard input. */
  readonly stdin?: Uint8Array | undefined;
}

export interface ContainerOutput {
  readonly stream: "stdout" | "stderr";
  readonly chunk: Uint8Array;
}

/** How a container ended. A signal is also in the exit code, as 128 + its number. */
export interface ContainerExit {
  readonly exitCode: number;
  /** `SIGKILL` and so on, where it is known that one ended the process. */
  readonly signal?: string | undefined;
  /** True when an overlay layer that was written on is still empty: the container changed nothing. Undefined elsewhere. */
  readonly unchanged?: boolean | undefined;
  readonly durations: ContainerDurations;
}

/** Milliseconds: until the command was started, until it ended, until nothing of it was left. */
export interface ContainerDurations {
  readonly prepareMs: number;
  readonly runMs: number;
  readonly cleanUpMs: number;
}
