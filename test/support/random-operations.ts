/**
 * Random changes to a tree: the operations of the property tests. Each is one line that a person can read; applying one
 * never throws: what the kernel refuses (a missing parent, EXDEV, EPERM) is simply not done, as a shell script would go on.
 * Names come from a small pool, so that operations meet.
 */
import fc from "fast-check";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";

export type Operation =
  | { readonly op: "mkdir"; readonly path: string; readonly mode: number }
  | { readonly op: "write"; readonly path: string; readonly text: string }
  | { readonly op: "append"; readonly path: string; readonly text: string }
  | { readonly op: "truncate"; readonly path: string; readonly size: number }
  | { readonly op: "disguise"; readonly path: string }
  | { readonly op: "open"; readonly path: string }
  | { readonly op: "chmod"; readonly path: string; readonly mode: number }
  | { readonly op: "chown"; readonly path: string; readonly uid: number; readonly gid: number }
  | { readonly op: "touch"; readonly path: string; readonly sec: number; readonly nsec: number }
  | { readonly op: "setxattr"; readonly path: string; readonly name: string; readonly value: string }
  | { readonly op: "removexattr"; readonly path: string; readonly name: string }
  | { readonly op: "acl"; readonly path: string; readonly uid: number }
  | { readonly op: "link"; readonly path: string; readonly to: string }
  | { readonly op: "symlink"; readonly path: string; readonly target: string }
  | { readonly op: "mknod"; readonly path: string; readonly type: "fifo" | "device" }
  | { readonly op: "rename"; readonly path: string; readonly to: string }
  | { readonly op: "exchange"; readonly path: string; readonly to: string }
  | { readonly op: "remove"; readonly path: string };

const EAGAIN = 11;
const names = ["a", "b", "c"];

/** Paths of one to three names. */
const path = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const text = fc.constantFrom("", "x", "xy", "yx", "longer content\n", "5000 bytes");

/** What the lowest layer of a sequence holds: something at about every second path of the pool, so that operations meet. */
export const plantedTree = `
  mkdir -p a/a a/b b/a c
  echo one > a/c; echo two > a/a/a; ln a/a/a a/a/b; ln a/a/a b/c; echo three > b/a/b; ln -s ../a b/b
  echo four > c/a; touch -d @1000000000 c/a; echo five > a/b/c; chmod 4755 a/b/c; mkfifo c/b`;

/** A record that prints as a plain object. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;

/** One operation. Directories, moves and removals come often, since they are what overlays make hard. */
export const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 4,
    arbitrary: record({ op: fc.constant("mkdir" as const), path, mode: fc.constantFrom(0o755, 0o700, 0o1777) }),
  },
  { weight: 5, arbitrary: record({ op: fc.constant("write" as const), path, text }) },
  { weight: 2, arbitrary: record({ op: fc.constant("append" as const), path, text }) },
  {
    weight: 1,
    arbitrary: record({ op: fc.constant("truncate" as const), path, size: fc.constantFrom(0, 1, 3, 9000) }),
  },
  { weight: 1, arbitrary: record({ op: fc.constant("disguise" as const), path }) },
  { weight: 1, arbitrary: record({ op: fc.constant("open" as const), path }) },
  {
    weight: 2,
    arbitrary: record({
      op: fc.constant("chmod" as const),
      path,
      mode: fc.constantFrom(0o644, 0o600, 0o4755, 0o755),
    }),
  },
  {
    weight: 2,
    arbitrary: record({
      op: fc.constant("chown" as const),
      path,
      uid: fc.constantFrom(0, 7, 1000),
      gid: fc.constantFrom(0, 8),
    }),
  },
  {
    weight: 1,
    arbitrary: record({
      op: fc.constant("touch" as const),
      path,
      sec: fc.constantFrom(0, -5, 1000000000),
      nsec: fc.constantFrom(0, 123456789),
    }),
  },
  {
    weight: 1,
    arbitrary: record({
      op: fc.constant("setxattr" as const),
      path,
      name: fc.constantFrom("user.one", "trusted.two", "user.three"),
      value: fc.constantFrom("", "v", "\0\xff"),
    }),
  },
  {
    weight: 1,
    arbitrary: record({
      op: fc.constant("removexattr" as const),
      path,
      name: fc.constantFrom("user.one", "trusted.two"),
    }),
  },
  { weight: 1, arbitrary: record({ op: fc.constant("acl" as const), path, uid: fc.constantFrom(0, 12) }) },
  { weight: 3, arbitrary: record({ op: fc.constant("link" as const), path, to: path }) },
  {
    weight: 1,
    arbitrary: record({
      op: fc.constant("symlink" as const),
      path,
      target: fc.constantFrom("a", "/b/c", "../../.."),
    }),
  },
  {
    weight: 1,
    arbitrary: record({
      op: fc.constant("mknod" as const),
      path,
      type: fc.constantFrom("fifo" as const, "device" as const),
    }),
  },
  { weight: 6, arbitrary: record({ op: fc.constant("rename" as const), path, to: path }) },
  { weight: 2, arbitrary: record({ op: fc.constant("exchange" as const), path, to: path }) },
  { weight: 4, arbitrary: record({ op: fc.constant("remove" as const), path }) },
);

/** Operations for one to five layers, one after another. */
export const operationSequence = fc.array(fc.array(operation, { minLength: 1, maxLength: 20 }), {
  minLength: 1,
  maxLength: 5,
});

/** Carries operations out below the directory `root`. What came of each: 0, or a negative errno. */
export function performAll(root: string, operations: readonly Operation[]): number[] {
  using at = sys.open(root, C.O_RDONLY | C.O_DIRECTORY);
  return operations.map((one) => Math.min(0, perform(at.fd, one)));
}

/**
 * Carries one operation out beneath the open directory `root`; a negative errno when it was refused. Symbolic links on the
 * way end in `root` as if it were `/`: those of the pool would lead into the host.
 */
function perform(root: number, what: Operation): number {
  const place = openParent(root, what.path);
  if (typeof place === "number") return place;
  try {
    const target = "to" in what ? openParent(root, what.to) : undefined;
    if (typeof target === "number") return target;
    try {
      return performAt(place, target ?? place, what);
    } finally {
      if (target !== undefined) raw.close(target[0]);
    }
  } finally {
    raw.close(place[0]);
  }
}

/** The directory that holds the last name of a path, opened, and that name; or a negative errno. */
function openParent(root: number, path: string): [fd: number, name: string] | number {
  const cut = path.lastIndexOf("/");
  const parent = cut < 0 ? "." : path.slice(0, cut);
  const flags = C.O_PATH | C.O_DIRECTORY;
  let fd = raw.openat2(root, parent, flags, 0, C.RESOLVE_IN_ROOT);
  // Something was renamed or mounted somewhere while it went through `..`.
  while (fd === -EAGAIN) fd = raw.openat2(root, parent, flags, 0, C.RESOLVE_IN_ROOT);
  return fd < 0 ? fd : [fd, path.slice(cut + 1)];
}

function performAt([fd, name]: [number, string], to: [number, string], what: Operation): number {
  switch (what.op) {
    case "mkdir":
      return raw.mkdirat(fd, name, what.mode) || raw.fchmodat2(fd, name, what.mode, C.AT_SYMLINK_NOFOLLOW);
    case "write":
      return withFile(fd, name, C.O_WRONLY | C.O_CREAT | C.O_TRUNC, (file) => raw.write(file, bytes(what.text)));
    case "append":
      return withFile(fd, name, C.O_WRONLY | C.O_APPEND, (file) => raw.write(file, bytes(what.text)));
    case "truncate":
      return withFile(fd, name, C.O_WRONLY, (file) => raw.ftruncate(file, what.size));
    case "disguise":
      return disguise(fd, name);
    case "open":
      return withFile(fd, name, C.O_RDWR, () => 0);
    case "chmod":
      return raw.fchmodat2(fd, name, what.mode, C.AT_SYMLINK_NOFOLLOW);
    case "chown":
      return raw.fchownat(fd, name, what.uid, what.gid, C.AT_SYMLINK_NOFOLLOW);
    case "touch":
      return raw.utimensat(fd, name, 0, 0, what.sec, what.nsec);
    case "setxattr":
      return raw.lsetxattrat(fd, name, what.name, bytes(what.value));
    case "removexattr":
      return raw.lremovexattrat(fd, name, what.name);
    case "acl":
      return raw.lsetxattrat(fd, name, "system.posix_acl_access", acl(what.uid));
    case "link":
      return raw.linkat(fd, name, ...to);
    case "symlink":
      return raw.symlinkat(what.target, fd, name);
    case "mknod":
      return raw.mknodat(fd, name, what.type === "fifo" ? C.S_IFIFO | 0o644 : C.S_IFCHR | 0o600, 1, 3);
    case "rename":
      return raw.renameat2(fd, name, ...to);
    case "exchange":
      return raw.renameat2(fd, name, ...to, C.RENAME_EXCHANGE);
    case "remove":
      return removeTree(fd, name);
    default:
      return what satisfies never;
  }
}

/** Other content of the same size under the same modification time. */
function disguise(root: number, path: string): number {
  const stat = raw.statx(root, path);
  if (typeof stat === "number") return stat;
  if ((stat.mode & C.S_IFMT) !== C.S_IFREG || stat.size === 0) return 0;
  const r = withFile(root, path, C.O_RDWR, (fd) => {
    const first = Buffer.alloc(1);
    raw.pread64(fd, first, 1, 0);
    first[0] = (first[0] ?? 0) ^ 1;
    return raw.pwrite64(fd, first, 1, 0);
  });
  if (r < 0) return r;
  return raw.utimensat(root, path, stat.atimeSec, stat.atimeNsec, stat.mtimeSec, stat.mtimeNsec);
}

/** A negative errno when something of it is left. */
export function removeTree(root: number, path: string): number {
  if (raw.unlinkat(root, path) >= 0 || raw.unlinkat(root, path, C.AT_REMOVEDIR) >= 0) return 0;
  const fd = raw.openat(root, path, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW);
  if (fd < 0) return fd;
  const entries: raw.DirEntry[] = [];
  while (raw.getdents64(fd, entries) > 0);
  for (const { name } of entries) removeTree(fd, name);
  raw.close(fd);
  return raw.unlinkat(root, path, C.AT_REMOVEDIR);
}

function withFile(root: number, path: string, flags: number, use: (fd: number) => number): number {
  const stat = raw.statx(root, path);
  if (typeof stat !== "number" && (stat.mode & C.S_IFMT) !== C.S_IFREG) return 0;
  const fd = raw.openat(root, path, flags | C.O_NOFOLLOW | C.O_NONBLOCK, 0o644);
  if (fd < 0) return fd;
  const result = use(fd);
  raw.close(fd);
  return result;
}

/** The bytes of a text of the pool; `5000 bytes` stands for that many, so that a sequence stays readable. */
function bytes(value: string): Buffer {
  return value === "5000 bytes" ? Buffer.alloc(5000, "z") : Buffer.from(value, "latin1");
}

/** An ACL with one named user, as the kernel stores it (include/uapi/linux/posix_acl_xattr.h). */
function acl(uid: number): Buffer {
  const none = 0xffffffff;
  const entries: [number, number, number][] = [
    [0x01, 6, none],
    [0x02, 7, uid],
    [0x04, 4, none],
    [0x10, 7, none],
    [0x20, 4, none],
  ];
  const buffer = Buffer.alloc(4 + entries.length * 8);
  buffer.writeUInt32LE(2, 0);
  entries.forEach(([tag, permissions, id], i) => {
    buffer.writeUInt16LE(tag, 4 + i * 8);
    buffer.writeUInt16LE(permissions, 6 + i * 8);
    buffer.writeUInt32LE(id, 8 + i * 8);
  });
  return buffer;
}
