/** Everything a layer can say of a tree, in a form that two trees can be compared in. */
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";

export interface TreeSnapshot {
  /** One line a path: type, mode, owner, device, size, time, link target, attributes, content. */
  readonly lines: ReadonlyMap<string, string>;
  /** For each path that is not a directory, a number that names share when they are hard links of one inode. */
  readonly inodes: ReadonlyMap<string, number>;
}

export interface SnapshotOptions {
  /**
   * Counts of links as well, and that listings agree with the objects on types and inode numbers: what only file systems have
   * in common, not layers. Those of directories tell whether they have been copied up; `files` leaves them out.
   */
  readonly asMounted?: boolean | "files";
}

/** Reads a whole tree. The time of the root is left out: no layer carries it when nothing else of the root changed. */
export function snapshot(root: string, { asMounted = false }: SnapshotOptions = {}): TreeSnapshot {
  const lines = new Map<string, string>();
  const inodes = new Map<string, number>();
  const numbers = new Map<string, number>();
  const visit = (fd: number, prefix: string): void => {
    for (const listed of sys.readdir(fd)) {
      const { name } = listed;
      const path = prefix + name;
      const stat = sys.statx(fd, name);
      const type = stat.mode & C.S_IFMT;
      const links = asMounted === "files" && type === C.S_IFDIR ? "" : `${stat.nlink} links`;
      lines.set(path, line(fd, name, stat) + (asMounted ? ` ${links}${mismatch(listed, stat)}` : ""));
      if (type === C.S_IFDIR) {
        using child = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
        visit(child.fd, `${path}/`);
      } else {
        const key = sys.inodeKey(stat);
        const number = numbers.get(key) ?? numbers.size;
        numbers.set(key, number);
        inodes.set(path, number);
      }
    }
  };
  using fd = sys.open(root, C.O_RDONLY | C.O_DIRECTORY);
  const { mode, uid, gid } = sys.fstat(fd.fd);
  lines.set(".", `${mode.toString(8)} ${uid}:${gid} ${xattrs(fd.fd, ".")}`);
  visit(fd.fd, "");
  return { lines, inodes };
}

function line(fd: number, name: string, stat: sys.Stat): string {
  const type = stat.mode & C.S_IFMT;
  const directory = type === C.S_IFDIR;
  return [
    stat.mode.toString(8),
    `${stat.uid}:${stat.gid}`,
    `${stat.rdevMajor}:${stat.rdevMinor}`,
    directory ? "-" : stat.size,
    `${stat.mtimeSec}.${stat.mtimeNsec}`,
    type === C.S_IFLNK ? sys.readlinkat(fd, name) : "",
    xattrs(fd, name),
    type === C.S_IFREG ? content(fd, name, stat.size) : "",
  ].join(" ");
}

/** How a listing contradicts the object. */
function mismatch(listed: sys.DirEntry, stat: sys.Stat): string {
  const isOther = listed.inoLow !== stat.inoLow || listed.inoHigh !== stat.inoHigh;
  const isOtherType = listed.type !== (stat.mode & C.S_IFMT) >>> 12;
  return `${isOther ? ", listed with another inode number" : ""}${isOtherType ? `, listed as type ${listed.type}` : ""}`;
}

function xattrs(fd: number, name: string): string {
  return sys
    .llistxattrat(fd, name)
    .filter((key) => !key.startsWith("security.selinux") && !/^(trusted|user)\.overlay\./.test(key))
    .sort()
    .map((key) => `${key}=${sys.lgetxattrat(fd, name, key)?.toString("hex")}`)
    .join(",");
}

function content(fd: number, name: string, size: number): string {
  using file = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_NOFOLLOW));
  const buffer = Buffer.alloc(size);
  let at = 0;
  while (at < size) {
    const n = sys.pread64(file.fd, buffer.subarray(at), size - at, at);
    if (n === 0) return `SHORT ${at}`;
    at += n;
  }
  return size > 64
    ? `${buffer.toString("latin1", 0, 16)}…${buffer.reduce((a, b) => (a * 31 + b) | 0, 0)}`
    : buffer.toString("latin1");
}

/** What differs between two trees, a line each; empty when they are equal. Link groups are compared among `linked` paths. */
export function differences(left: TreeSnapshot, right: TreeSnapshot, linked: readonly string[] = []): string[] {
  const found: string[] = [];
  for (const [path, own] of left.lines) {
    const other = right.lines.get(path);
    if (other !== own) found.push(`${path}: ${own} | ${other ?? "missing"}`);
  }
  for (const path of right.lines.keys())
    if (!left.lines.has(path)) found.push(`${path}: missing | ${right.lines.get(path)}`);
  const groups = (tree: TreeSnapshot): string => {
    const names = new Map<number, string[]>();
    for (const path of linked) {
      const inode = tree.inodes.get(path);
      if (inode !== undefined) names.set(inode, [...(names.get(inode) ?? []), path]);
    }
    return [...names.values()]
      .filter((group) => group.length > 1)
      .map((group) => group.sort().join("="))
      .sort()
      .join(" ");
  };
  const a = groups(left);
  const b = groups(right);
  if (a !== b) found.push(`hard links: ${a} | ${b}`);
  return found;
}

/** A view without what the clock gave it. */
export function timeless(tree: TreeSnapshot): TreeSnapshot {
  const lines = [...tree.lines].map(([path, line]) => [path, line.replace(/ 1[7-9]\d{8}\.\d+ /, " now ")] as const);
  return { lines: new Map(lines), inodes: tree.inodes };
}
