/**
 * The namespaces of a thread that runs build steps.
 *
 * The thread leaves the process's mount namespace once, for a *base* namespace of its own in which nothing it mounts is seen
 * by others, and what others unmount goes away here too (slave propagation). Over `scratch` it mounts a tmpfs, which holds
 * mount points, bundles and whatever lasts no longer than a step. Each step then unshares again, from the base, and comes
 * back with setns: all a step mounted ends with its namespace. The kernel sees to the same when the process is killed, so
 * nothing ever stays mounted.
 *
 * Children of child_process.spawn are forked by the calling thread and so inherit its namespaces, root, working directory
 * and ids (checked by test/mount/sandbox.test.ts). Only synchronous calls of this thread see them; libuv's pool does not.
 */
import type { ByteString } from "../../lib/bytes.ts";
import {
  AT_FDCWD,
  CLONE_FS,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWUTS,
  MS_NODEV,
  MS_NOSUID,
  MS_REC,
  MS_SLAVE,
  O_RDONLY,
} from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { ContainerNetwork } from "./container-spec.ts";

const kinds = [
  ["mnt", CLONE_NEWNS],
  ["ipc", CLONE_NEWIPC],
  ["uts", CLONE_NEWUTS],
] as const;

export interface ThreadNamespacesOptions {
  /** An existing directory this thread needs nothing of: it covers it with its tmpfs. */
  readonly scratch: ByteString;
  /** `none`: the thread, and all it starts, has only a loopback interface. */
  readonly network: ContainerNetwork;
}

export class ThreadNamespaces {
  /** A tmpfs of this thread alone. */
  readonly scratch: ByteString;
  readonly network: ContainerNetwork;
  readonly #base: readonly { readonly fd: sys.OwnedFd; readonly flag: number }[];

  private constructor(options: ThreadNamespacesOptions) {
    this.scratch = options.scratch;
    this.network = options.network;
    this.#base = kinds.map(([name, flag]) => ({ fd: sys.open(`/proc/thread-self/ns/${name}`, O_RDONLY), flag }));
  }

  /** Moves the calling thread into its base namespaces, for ever. Once a thread. */
  static enter(options: ThreadNamespacesOptions): ThreadNamespaces {
    // IPC and UTS are unshared here too: in a user namespace one can only come back to what it owns.
    const network = options.network === "none" ? CLONE_NEWNET : 0;
    sys.unshare(CLONE_FS | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | network);
    sys.mount("none", "/", "", MS_REC | MS_SLAVE, "");
    sys.mount("lamella", options.scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    if (network !== 0) raw.bringLoopbackUp();
    return new ThreadNamespaces(options);
  }

  /** Runs `body` in fresh namespaces, mount always and those of `flags`, and comes back. */
  async step<T>(flags: number, body: () => Promise<T>): Promise<T> {
    sys.unshare(CLONE_NEWNS | flags);
    try {
      return await body();
    } finally {
      this.#comeBack(flags);
    }
  }

  /** As `step`, for what never waits. */
  stepSync<T>(body: () => T): T {
    sys.unshare(CLONE_NEWNS);
    try {
      return body();
    } finally {
      this.#comeBack(0);
    }
  }

  /** A path of the thread's tmpfs as a directory, made when it is not there. */
  directory(name: ByteString): ByteString {
    const path = `${this.scratch}/${name}`;
    if (sys.statIfExists(AT_FDCWD, path) === undefined) sys.mkdirat(AT_FDCWD, path, 0o755);
    return path;
  }

  #comeBack(flags: number): void {
    for (const { fd, flag } of this.#base) if (flag === CLONE_NEWNS || flags & flag) sys.setns(fd.fd, flag);
  }
}
