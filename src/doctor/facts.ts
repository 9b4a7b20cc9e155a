/**
 * `doctor` has two halves that never mix:
 *
 * - **collectors** (./collect) look at the host and its engines and answer with facts. They change nothing but for one trial
 *   directory (./collect/trial.ts), and judge nothing. What could not be seen is said in `unseen`, with the reason; it is
 *   `undefined` in the facts, never guessed.
 * - **findings** (./findings) are pure functions from facts to findings.
 *
 * Facts are plain JSON, so that every finding can be tested with facts that somebody wrote down. An engine that is not there
 * is a fact (`docker: []`), not an error.
 */

/** All that was seen. */
export interface Facts {
  readonly host: HostFacts;
  readonly overlay: OverlayFacts;
  readonly docker: readonly DockerFacts[];
  readonly podman: readonly PodmanFacts[];
  readonly containerd: readonly ContainerdFacts[];
  readonly lamella: readonly LamellaFacts[];
  /** The places data lie in, by their path. Engines name theirs in `root`. */
  readonly roots: Readonly<Record<string, RootFacts>>;
  /** What could not be seen, and why. */
  readonly unseen: readonly Unseen[];
}

export interface Unseen {
  /** A path or a question. */
  readonly what: string;
  readonly why: string;
}

export interface HostFacts {
  /** `uname -r`. */
  readonly kernel: string;
  readonly machine: string;
  readonly uid: number;
  /** In a user namespace other than the initial one. */
  readonly inUserNamespace: boolean;
  /** /proc/sys/user/max_user_namespaces. */
  readonly maxUserNamespaces?: number;
  /** False where Debian's kernel.unprivileged_userns_clone is 0. */
  readonly unprivilegedUserNamespaces?: boolean;
  /** Of the ZFS module that is loaded. */
  readonly zfsVersion?: string;
  /** Undefined where no engine is, or programs cannot be run. */
  readonly runtimes?: readonly RuntimeFacts[];
}

/** A program that starts containers. */
export interface RuntimeFacts {
  readonly name: "runc" | "crun";
  readonly path: string;
  /** As it says itself. */
  readonly version: string;
  /** The distribution's package of its name that it belongs to. */
  readonly package?: {
    readonly manager: "dpkg" | "rpm";
    readonly version?: string;
    /** CVE numbers that its changelog names. */
    readonly fixes?: readonly string[];
  };
}

export type OverlayPresence = "builtin" | "loaded module" | "module" | "absent" | "unknown";

/** One option of the overlay module that a file or the kernel command line sets. */
export interface OptionSource {
  readonly name: string;
  readonly value: string;
  /** Where it stands: a file with its line, or /proc/cmdline. */
  readonly source: string;
}

/** What a parameter will be after a reboot, and which source decides. */
export interface FutureValue {
  readonly value: string;
  readonly source: string;
}

export interface OverlayFacts {
  readonly presence: OverlayPresence;
  /** /sys/module/overlay/parameters, now. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Defaults the kernel was compiled with, by parameter, and the file that says so. */
  readonly compiled?: { readonly file: string; readonly values: Readonly<Record<string, string>> };
  /** Options in modprobe.d, in the order modprobe heeds them: the last counts. */
  readonly modprobe: readonly OptionSource[];
  /** `overlay.NAME=VALUE` on the kernel command line. */
  readonly commandLine: readonly OptionSource[];
  /** What holds after a reboot; a parameter nobody can tell is left out. */
  readonly afterReboot: Readonly<Record<string, FutureValue>>;
}

export interface DockerFacts {
  /** Of the socket, where a daemon answers. */
  readonly socket?: string;
  readonly version?: string;
  /** True when the daemon answered; undefined when one that does not talk to us may be the one of this root. */
  readonly running?: boolean;
  /** Name of the storage driver, or of the snapshotter when layers are containerd's. Not running: the one with layers. */
  readonly driver?: string;
  /** `DriverStatus` of /info: the lines `docker info` prints. */
  readonly status: readonly (readonly [string, string])[];
  /** Layers are kept by containerd's snapshotter, not by a graph driver. */
  readonly containerdStore: boolean;
  readonly warnings: readonly string[];
  /** The data root. */
  readonly root: string;
  /** What a configuration file or the daemon's arguments say of the driver, and where. */
  readonly asked?: { readonly driver: string; readonly source: string };
  /** True when its configuration makes BuildKit the builder. */
  readonly buildkit?: boolean;
  /** Undefined when the data root could not be read. */
  readonly data?: DockerData;
}

/** What lies in Docker's data root. */
export interface DockerData {
  /** Storage drivers with layers, and how many layers. */
  readonly drivers: readonly { readonly driver: string; readonly layers: number }[];
  /** The one these facts below are about: the daemon's, or the only one with layers. */
  readonly driver?: string;
  /** The longest chain of image layers. */
  readonly deepestChain: number;
  /** Directories of the driver that neither the layer store nor BuildKit knows. */
  readonly orphans: LayerCount & { readonly sizeBytes: number; readonly sizeIsAtLeast: boolean };
  /** Layers of the layer store without a directory in the driver. */
  readonly missing: LayerCount;
  /** Layers with empty or unreadable metadata. */
  readonly emptyMetadata: LayerCount;
  /** overlay2: `link` and `lower` files that lead nowhere. */
  readonly brokenLinks: LayerCount;
  /** overlay2: programs and libraries in layers that have lost their content. Counts files. */
  readonly hollowFiles: LayerCount;
  /** devicemapper: the loop file, if there is one. */
  readonly loopFile?: string;
}

export interface LayerCount {
  readonly count: number;
  /** A few of them: paths under the data root, with what is wrong where that is not plain. */
  readonly examples: readonly string[];
}

export interface PodmanFacts {
  /** The storage.conf that counts. */
  readonly config?: string;
  readonly driver?: string;
  readonly root: string;
  /** Where it keeps what is gone after a reboot. */
  readonly runRoot: string;
  /** Of a user who is not root: its overlays are mounted in a user namespace. */
  readonly rootless: boolean;
  readonly mountOptions?: string;
  readonly mountProgram?: string;
  /** Answers kept until a reboot, as the file names in the run root: `native-diff(nodev)-false`. */
  readonly remembered: readonly string[];
}

export interface ContainerdFacts {
  readonly config?: string;
  readonly root: string;
  readonly snapshotters: readonly string[];
}

export interface LamellaFacts {
  readonly root: string;
  readonly drivers: readonly string[];
}

/** A data root and the file system under it. */
export interface RootFacts {
  readonly path: string;
  /** By magic number: `extfs`, `xfs`, `zfs` ... */
  readonly fileSystem?: string;
  readonly mountPoint?: string;
  /** As mountinfo has it: `ext4`, `nfs4`, `fuse.sshfs` ... */
  readonly mountType?: string;
  readonly mountOptions?: readonly string[];
  readonly device?: string;
  readonly totalBytes?: number;
  readonly availableBytes?: number;
  /** 0 for file systems that have no limit. */
  readonly totalInodes?: number;
  readonly freeInodes?: number;
  /** Permission bits, octal: `0710`. */
  readonly mode?: string;
  /** Users other than its owner and group can enter it: the root and every directory above. */
  readonly openToOthers?: boolean;
  /** Directories tell the types of their names. */
  readonly dType?: boolean;
  /** What a trial mount of overlayfs showed on this file system, with Docker's options. */
  readonly trial?: OverlayTrial;
}

export interface OverlayTrial {
  /** The error of the mount, where it did not work. */
  readonly error?: string;
  /** Renaming a directory of a lower layer left a redirect. */
  readonly redirects: boolean;
  /** Changing a file's mode copied its metadata alone. */
  readonly metacopies: boolean;
}
