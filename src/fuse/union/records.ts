/**
 * Owners and modes that are kept in an attribute of each object instead of in its inode (`xattr_permissions`), for users who may
 * give nothing away and for shared directories. The format is that of fuse-overlayfs (utils.c override_mode, main.c
 * write_permission_xattr), which others in the world of containers write, too:
 *
 *     UID:GID:MODE                                 decimal, decimal, octal without the type
 *     security.fuseoverlayfs.override_stat         xattr_permissions=1
 *     user.containers.override_stat                xattr_permissions=2
 *     user.fuseoverlayfs.override_stat             as 2 where the upper's root has it: of fuse-overlayfs up to 1.10, which knows no other
 *
 * A layer keeps such records when its root has one. MODE may have the type in it, which counts for nothing. An object without
 * one shows what its inode has: attributes of users cannot be set on symbolic links and devices. Backing files and directories
 * are open to whoever serves them (0755 at least), set-id bits stand in the record alone.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { Layer } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import type { OwnedFd, Stat } from "../../sys/syscalls.ts";
import * as sys from "../../sys/syscalls.ts";

const EPERM = 1;
const EINVAL = 22;
const EOPNOTSUPP = 95;

const privileged = "security.fuseoverlayfs.override_stat";
const containers = "user.containers.override_stat";
const former = "user.fuseoverlayfs.override_stat";
/** In which order a layer's root is asked. */
const names = [privileged, containers, former] as const;
export type RecordName = (typeof names)[number];

type At = readonly [fd: number, name: ByteString];
type Permissions = Pick<Stat, "uid" | "gid" | "mode">;

/** The attribute in which a layer keeps its records; undefined for a layer that has none. */
export function recordNameOf(layer: Layer): RecordName | undefined {
  return names.find((name) => layer.getxattr("", name) !== undefined);
}

/** Sees to it that the upper layer keeps records: its root that of the uppermost layer below which has one, else its own. */
export function beginRecords(upper: Layer, root: number, lowers: readonly Layer[], kind: 1 | 2): RecordName {
  const found = recordNameOf(upper);
  const wanted = kind === 1 ? privileged : containers;
  if (found === wanted || (found === former && kind === 2)) return found;
  const below = lowers.map((layer) => recordNameOf(layer) && layer.getxattr("", recordNameOf(layer) ?? ""));
  const value = below.find((each) => each !== undefined) ?? formatRecord(sys.fstat(root));
  const r = raw.lsetxattrat(root, ".", wanted, value);
  if (r < 0) throw new SyscallError("setxattr", -r, wanted);
  return wanted;
}

/** Puts what a record says into `stat`. Errors: SyscallError EINVAL when it says nothing of the kind. */
export function applyRecord(stat: Stat, record: Buffer | undefined): Stat {
  if (record === undefined) return stat;
  const [, uid, gid, mode] = /^(\d+):(\d+):([0-7]+)/.exec(record.toString("latin1")) ?? [];
  if (mode === undefined) throw new SyscallError("getxattr", EINVAL);
  return {
    ...stat,
    uid: Number(uid),
    gid: Number(gid),
    mode: (stat.mode & C.S_IFMT) | (Number.parseInt(mode, 8) & 0o7777),
  };
}

function formatRecord({ uid, gid, mode }: Permissions): Buffer {
  return Buffer.from(`${uid}:${gid}:${(mode & 0o7777).toString(8)}`);
}

/** Writes the record of an object of the upper layer; false where it can have none, and has what its inode has. */
export function writeRecord([fd, own]: At, name: RecordName, permissions: Permissions): boolean {
  const value = formatRecord(permissions);
  const r = own === "" ? raw.fsetxattr(fd, name, value) : raw.lsetxattrat(fd, own, name, value);
  if (r >= 0) return true;
  if (name !== privileged && (r === -EPERM || r === -EOPNOTSUPP)) return false;
  throw new SyscallError("setxattr", -r, name);
}

/** Writes the record of a new object: its mode is what came of the umask, its group by the directory's record. */
export function recordNew(at: At, record: RecordName, { uid, gid }: Omit<Permissions, "mode">, directory: Stat): void {
  const [fd, name] = at;
  const flags = flagsOf(at);
  const { mode } = sys.statx(fd, name, flags);
  const inherits = (directory.mode & 0o2000) !== 0;
  const setGroup = inherits && (mode & C.S_IFMT) === C.S_IFDIR ? 0o2000 : 0;
  if (writeRecord(at, record, { uid, gid: inherits ? directory.gid : gid, mode: mode | setGroup }))
    openBacking(at, mode);
  // Where that is not allowed it stays this process's, as with fuse-overlayfs.
  else raw.fchownat(fd, name, uid, gid, flags);
}

/** Lets whoever serves it use an object, whatever its record says. */
export function openBacking(at: At, mode: number): void {
  if ((mode & C.S_IFMT) === C.S_IFLNK) return;
  sys.lchmodat(...at, (mode & 0o777) | 0o755);
}

function flagsOf([, name]: At): number {
  return name === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW;
}

/** A layer with records: what it shows of its objects is what they say. */
export class RecordedLayer implements Layer {
  readonly #layer: Layer;
  readonly #name: RecordName;

  constructor(layer: Layer, name: RecordName) {
    this.#layer = layer;
    this.#name = name;
  }

  stat(path: ByteString): Stat | undefined {
    const stat = this.#layer.stat(path);
    return stat && applyRecord(stat, this.#layer.getxattr(path, this.#name));
  }

  getxattr(path: ByteString, name: ByteString): Buffer | undefined {
    return name === this.#name ? undefined : this.#layer.getxattr(path, name);
  }

  listxattr(path: ByteString): readonly ByteString[] {
    return this.#layer.listxattr(path).filter((name) => name !== this.#name);
  }

  openPath(path: ByteString): OwnedFd | undefined {
    return this.#layer.openPath(path);
  }

  list(path: ByteString): ReturnType<Layer["list"]> {
    return this.#layer.list(path);
  }

  readlink(path: ByteString): ByteString {
    return this.#layer.readlink(path);
  }

  birthTime(path: ByteString): ReturnType<Layer["birthTime"]> {
    return this.#layer.birthTime(path);
  }

  open(path: ByteString): OwnedFd {
    return this.#layer.open(path);
  }

  extent(path: ByteString): ReturnType<Layer["extent"]> {
    return this.#layer.extent(path);
  }

  [Symbol.dispose](): void {
    this.#layer[Symbol.dispose]();
  }
}
