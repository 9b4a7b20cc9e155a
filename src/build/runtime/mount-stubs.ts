/**
 * Mount points a container needs that its image lacks: /proc, /etc/resolv.conf, targets of mounts.
 *
 * They must not become part of the layer. For an overlay they are made in a directory of the thread's tmpfs, which is
 * mounted as one more lower layer between the writable one and the image (as Docker's "init" layer is); directories that
 * exist in the image get the image's attributes there, so that a copy-up changes none. In a plain directory they are made
 * in place and taken away afterwards, with the times of the directories around them put back.
 */
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { locate } from "../rooted-path.ts";

export interface MountPoint {
  /** Absolute path in the root; links are followed. */
  readonly path: ByteString;
  readonly type: "directory" | "file";
}

/** A mount point's real path in the root, and whether it is there. */
export interface ResolvedMountPoint extends MountPoint {
  /** Without links. */
  readonly realPath: ByteString;
  readonly exists: boolean;
}

/** Where `points` really lie. */
export function resolveMountPoints(rootFd: number, points: readonly MountPoint[]): ResolvedMountPoint[] {
  return points.map((point) => {
    using found = locate(rootFd, point.path);
    return { ...point, realPath: found.path, exists: found.stat !== undefined };
  });
}

/** Fills the empty directory `into` with the missing ones among `points`, beneath copies of the directories above them. */
export function fillStubLayer(rootFd: number, into: ByteString, points: readonly ResolvedMountPoint[]): void {
  const made = new Map<ByteString, sys.Stat>();
  const copy = (path: ByteString): void => {
    if (made.has(path)) return;
    if (path !== "/") copy(parentOf(path));
    using found = locate(rootFd, path, { followLast: false });
    const target = path === "/" ? into : `${into}${path}`;
    if (path !== "/") sys.mkdirat(AT_FDCWD, target, 0o755);
    if (found.stat === undefined) return;
    made.set(path, found.stat);
    sys.lchownat(AT_FDCWD, target, found.stat.uid, found.stat.gid);
    sys.lchmodat(AT_FDCWD, target, found.stat.mode & 0o7777);
    copyXattrs(found.directory, found.name ?? ".", target);
  };
  for (const point of points) {
    if (point.exists) continue;
    copy(parentOf(point.realPath));
    const target = `${into}${point.realPath}`;
    if (sys.statIfExists(AT_FDCWD, target) === undefined) makeStub(AT_FDCWD, target, point.type);
  }
  // Times last: making a child changes its directory's.
  for (const [path, stat] of made) setTimes(AT_FDCWD, path === "/" ? into : `${into}${path}`, stat);
}

/** Makes the missing ones among `points` in the root itself; disposing takes away those that were left as they were made. */
export function makeStubsInPlace(rootFd: number, points: readonly ResolvedMountPoint[]): Disposable {
  const undo: (() => void)[] = [];
  for (const point of points) {
    using found = locate(rootFd, point.path);
    let above: ByteString = parentOf(point.realPath);
    for (let i = 1; i < found.missing.length; i++) above = parentOf(above);
    for (const [i, name] of found.missing.entries()) {
      const last = i === found.missing.length - 1;
      using directory = locate(rootFd, above);
      const self = directory.name ?? ".";
      const before = directory.stat;
      using opened = new sys.OwnedFd(sys.openat(directory.directory, self, 0o10000000));
      makeStub(opened.fd, name, last ? point.type : "directory");
      const path = above;
      undo.push(() => {
        using again = locate(rootFd, path);
        using parent = new sys.OwnedFd(sys.openat(again.directory, again.name ?? ".", 0o10000000));
        removeStub(parent.fd, name, last ? point.type : "directory");
        if (before !== undefined) setTimes(again.directory, again.name ?? ".", before);
      });
      above = above === "/" ? `/${name}` : `${above}/${name}`;
    }
  }
  return {
    [Symbol.dispose]() {
      for (const step of undo.splice(0).reverse()) step();
    },
  };
}

function makeStub(directory: number, name: ByteString, type: MountPoint["type"]): void {
  if (type === "directory") sys.mkdirat(directory, name, 0o755);
  else sys.close(sys.openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644));
}

/** Removes a stub nobody put anything into. */
function removeStub(directory: number, name: ByteString, type: MountPoint["type"]): void {
  if (type === "directory") raw.unlinkat(directory, name, 0x200);
  else if (sys.statIfExists(directory, name)?.size === 0) raw.unlinkat(directory, name, 0);
}

function copyXattrs(directory: number, name: ByteString, target: ByteString): void {
  for (const attribute of sys.llistxattrat(directory, name)) {
    if (attribute.startsWith("trusted.overlay.") || attribute.startsWith("user.overlay.")) continue;
    const value = sys.lgetxattrat(directory, name, attribute);
    // What the tmpfs cannot hold (user.* before Linux 6.6) a copy-up would lose: rare, and only for the stub's parents.
    if (value !== undefined) raw.lsetxattrat(AT_FDCWD, target, attribute, value);
  }
}

function setTimes(directory: number, name: ByteString, stat: sys.Stat): void {
  const { atimeSec, atimeNsec, mtimeSec, mtimeNsec } = stat;
  sys.utimensat(directory, name, { atimeSec, atimeNsec, mtimeSec, mtimeNsec });
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
