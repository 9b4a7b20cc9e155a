/**
 * Size limits of directory trees through project quotas (xfs; ext4 with the features `quota` and `project`).
 *
 * A limited tree has a project of its own: its top directory gets the project's ID and hands it on to all that is made below.
 * IDs are found, not kept: a project is free when the file system counts no inode and no limit for it. They are looked for
 * from a number on that differs between homes (where a home directory has a project itself, from the next on, as Docker
 * does, so that an administrator can say where), so that others on the same file system are not in the way.
 *
 * Within a limiting the project is put on the directories first, then limited: a crash between leaves a project that ends
 * with its directories. `release` takes the limit off before the tree is deleted, so the ID is free when the last inode has gone.
 * Both hold a lock of the home, so two processes never take one ID.
 *
 * The kernel renames a directory into one that hands on a project only when both have the same: the limited directories are
 * to be made in a directory that has not.
 */
import { readFileSync } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, S_IFBLK } from "../sys/constants.ts";
import {
  kernelHasQuotactlFd,
  kernelHasQuotas,
  type ProjectUsage,
  projectOf,
  projectQuotaState,
  projectUsage,
  type QuotaTarget,
  setProject,
  setProjectLimit,
} from "../sys/quota.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { fileSystemName } from "./file-system-name.ts";
import { lockFile } from "./locks.ts";

const EPERM = 1;
const ENOENT = 2;
const ESRCH = 3;
const EEXIST = 17;
/** So many projects a home may have. */
const RANGE = 2 ** 20;

export class ProjectQuota {
  readonly #home: ByteString;
  readonly #lock: ByteString;
  readonly #firstId: number;

  private constructor(home: ByteString, lock: ByteString, firstId: number) {
    this.#home = home;
    this.#lock = lock;
    this.#firstId = firstId;
  }

  /**
   * The quotas of the file system that holds the directory `home`, or the reason why there are none. `lock` is the path of
   * a lock file. On kernels older than 5.14 a block device node `backingFsBlockDev` is made in `home`, as Docker does.
   */
  static open(home: ByteString, lock: ByteString): ProjectQuota | string {
    const reason = whyNoProjectQuota(home);
    if (reason !== undefined) return reason;
    using directory = openDirectory(home);
    const own = projectOf(directory.fd);
    if (typeof own === "number") throw new SyscallError("ioctl FS_IOC_FSGETXATTR", -own, textOfBytes(home));
    // Some homes begin at the same number; they still ask which IDs are taken.
    const firstId = own.id > 0 ? own.id + 1 : RANGE * (1 + (sys.fstat(directory.fd).inoLow % 2000));
    return new ProjectQuota(home, lock, firstId);
  }

  /** Gives empty directories one project with a limit. Errors: resource_exhausted when the home has used up its IDs. */
  limit(directories: readonly ByteString[], limitBytes: number): void {
    using _ = lockFile(this.#lock, "exclusive");
    const id = this.#freeId();
    for (const path of directories) {
      using directory = openDirectory(path);
      check("ioctl FS_IOC_FSSETXATTR", setProject(directory.fd, id), path);
    }
    this.#setLimit(id, limitBytes);
  }

  /** Takes the limit off a directory that `limit` put it on; others stay as they are. */
  release(path: ByteString): void {
    const id = this.#idOf(path);
    if (id === undefined) return;
    using _ = lockFile(this.#lock, "exclusive");
    this.#setLimit(id, 0);
  }

  /** Limit and use of a directory that `limit` was called for. */
  usage(path: ByteString): ProjectUsage | undefined {
    const id = this.#idOf(path);
    return id === undefined ? undefined : this.#usageOf(id);
  }

  #idOf(path: ByteString): number | undefined {
    const fd = raw.openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return undefined;
    using directory = new sys.OwnedFd(fd);
    const project = projectOf(directory.fd);
    if (typeof project === "number" || !project.inherits) return undefined;
    return project.id >= this.#firstId && project.id < this.#firstId + RANGE ? project.id : undefined;
  }

  #freeId(): number {
    for (let id = this.#firstId; id < this.#firstId + RANGE; id++) {
      const usage = this.#usageOf(id);
      if (usage === undefined || (usage.limitBytes === 0 && usage.usedBytes === 0 && usage.inodes === 0)) return id;
    }
    throw new LamellaError(
      "resource_exhausted",
      "PROJECT_IDS",
      `${textOfBytes(this.#home)} has used up its project IDs`,
    );
  }

  /** Undefined for a project that the file system has never heard of. */
  #usageOf(id: number): ProjectUsage | undefined {
    const usage = withTarget(this.#home, (target) => projectUsage(target, id));
    if (usage === -ENOENT || usage === -ESRCH) return undefined;
    if (typeof usage === "number") throw new SyscallError("quotactl Q_XGETQUOTA", -usage, textOfBytes(this.#home));
    return usage;
  }

  #setLimit(id: number, limitBytes: number): void {
    const r = withTarget(this.#home, (target) => setProjectLimit(target, id, limitBytes));
    check("quotactl Q_XSETQLIM", r, this.#home);
  }
}

/** True when what is made in the directory gets its project. */
export function inheritsProject(path: ByteString): boolean {
  using directory = openDirectory(path);
  const project = projectOf(directory.fd);
  return typeof project !== "number" && project.inherits;
}

/** Why limits cannot be set on the file system of a directory; undefined when they can. May make a node in it, as `open` does. */
export function whyNoProjectQuota(directory: ByteString): string | undefined {
  if (!isInitialUserNamespace()) return "projects belong to the host's user namespace";
  if (!kernelHasQuotas()) return "this kernel was built without quotas (CONFIG_QUOTA)";
  const name = fileSystemName(sys.statfs(directory).type);
  if (name !== "xfs" && name !== "extfs") return `${name} has no project quotas`;
  const state = withTarget(directory, projectQuotaState);
  if (state === -EPERM) return "setting project quotas needs root";
  if (typeof state !== "number" && state.accounts && state.enforces) return undefined;
  return name === "xfs"
    ? "the file system is not mounted with the option `pquota`"
    : "the file system is not mounted with `prjquota`, or was made without the features `quota` and `project`";
}

function isInitialUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
}

/** Errors: EPERM, as the number, where a block device node is needed and cannot be made. */
function withTarget<T>(home: ByteString, use: (target: QuotaTarget) => T): T | number {
  if (kernelHasQuotactlFd()) {
    using directory = openDirectory(home);
    return use({ fd: directory.fd });
  }
  const device = `${home}/backingFsBlockDev`;
  const r = makeBlockNode(device, sys.statx(AT_FDCWD, home));
  return r < 0 ? r : use({ device });
}

/** A node of the block device that holds the home, made anew where there is another's. */
function makeBlockNode(path: ByteString, { devMajor, devMinor }: sys.Stat): number {
  const node = sys.statIfExists(AT_FDCWD, path);
  if (node !== undefined && node.rdevMajor === devMajor && node.rdevMinor === devMinor) return 0;
  sys.unlinkIfExists(AT_FDCWD, path);
  const r = raw.mknodat(AT_FDCWD, path, S_IFBLK | 0o600, devMajor, devMinor);
  return r === -EEXIST ? 0 : r;
}

function openDirectory(path: ByteString): sys.OwnedFd {
  return sys.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

function check(call: string, result: number, path: ByteString): void {
  if (result < 0) throw new SyscallError(call, -result, textOfBytes(path));
}
