/** Everything about a tree that a layer must keep, as text that two trees can be compared by. */
import { createHash } from "node:crypto";
import type { ByteString } from "../lib/bytes.ts";
import {
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";

/**
 * A line for each object, in byte order of paths: type, mode, owner, size, times, device, link target, attributes (overlay's
 * own left out), a hash of the content, and for hard links the first of their names.
 */
export function listTree(root: ByteString): string[] {
  const lines: string[] = [];
  const names = new Map<string, ByteString>();
  const visit = (fd: number, path: ByteString): void => {
    lines.push(describe(fd, ".", path === "" ? "." : path, names));
    const entries = sys.readdir(fd).sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name } of entries) {
      const below = path === "" ? name : `${path}/${name}`;
      if ((sys.statx(fd, name).mode & S_IFMT) !== S_IFDIR) lines.push(describe(fd, name, below, names));
      else {
        using child = new sys.OwnedFd(sys.openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        visit(child.fd, below);
      }
    }
  };
  using opened = sys.open(root, O_RDONLY | O_DIRECTORY);
  visit(opened.fd, "");
  return lines;
}

function describe(fd: number, name: ByteString, path: ByteString, names: Map<string, ByteString>): string {
  const stat = sys.statx(fd, name);
  const type = stat.mode & S_IFMT;
  const parts = [path, stat.mode.toString(8), `${stat.uid}:${stat.gid}`, `${stat.mtimeSec}.${stat.mtimeNsec}`];
  if (type !== S_IFDIR) {
    parts.push(`size=${stat.size}`);
    const key = sys.inodeKey(stat);
    const first = names.get(key);
    if (first === undefined) names.set(key, path);
    else parts.push(`link=${first}`);
  }
  if (type === S_IFCHR || type === S_IFBLK) parts.push(`device=${stat.rdevMajor}:${stat.rdevMinor}`);
  if (type === S_IFLNK) parts.push(`to=${sys.readlinkat(fd, name)}`);
  if (type === S_IFREG) parts.push(`sha256=${hash(fd, name)}`);
  for (const xattr of sys.llistxattrat(fd, name).sort()) {
    if (xattr.startsWith("trusted.overlay.") || xattr.startsWith("user.overlay.")) continue;
    parts.push(`${xattr}=${sys.lgetxattrat(fd, name, xattr)?.toString("hex")}`);
  }
  return parts.join(" ");
}

function hash(fd: number, name: ByteString): string {
  using file = new sys.OwnedFd(sys.openat(fd, name, O_RDONLY | O_NOFOLLOW));
  const sum = createHash("sha256");
  const buffer = Buffer.allocUnsafe(65536);
  for (let n = sys.read(file.fd, buffer); n > 0; n = sys.read(file.fd, buffer)) sum.update(buffer.subarray(0, n));
  return sum.digest("hex").slice(0, 16);
}
