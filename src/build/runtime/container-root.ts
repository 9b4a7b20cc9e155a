/**
 * A container's root, mounted in the namespace of the calling thread with all mount points in place: what both the OCI
 * runtimes and the built-in sandbox start from.
 */
import type { LayerView } from "../../drivers/driver.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import {
  AT_FDCWD,
  MNT_DETACH,
  O_CREAT,
  O_DIRECTORY,
  O_PATH,
  O_TRUNC,
  O_WRONLY,
  S_IFDIR,
  S_IFMT,
} from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { mountRoot } from "../root-mount.ts";
import { locate } from "../rooted-path.ts";
import type { ContainerMount, ContainerSpec, MountSource } from "./container-spec.ts";
import { fillStubLayer, type MountPoint, makeStubsInPlace, resolveMountPoints } from "./mount-stubs.ts";
import type { ThreadNamespaces } from "./thread-namespaces.ts";

/** A file or directory of the host to be bound at a real path of the root. */
export interface ResolvedBind {
  readonly kind: "bind";
  readonly source: ByteString;
  /** Absolute in the root, without links. */
  readonly target: ByteString;
  readonly readOnly: boolean;
}

export interface ResolvedTmpfs {
  readonly kind: "tmpfs";
  readonly target: ByteString;
  readonly sizeBytes: number | undefined;
  readonly mode: number;
}

export type ResolvedMount = ResolvedBind | ResolvedTmpfs;

export interface ContainerRoot extends Disposable {
  /** Where the root is mounted. */
  readonly path: ByteString;
  readonly fd: number;
  /** Files of the engine and the mounts asked for, in order; /proc, /sys and /dev are not among them. */
  readonly mounts: readonly ResolvedMount[];
  /** The real paths of /proc, /sys and /dev. */
  readonly proc: ByteString;
  readonly sys: ByteString;
  readonly dev: ByteString;
}

/**
 * Mounts the root. Files that are bound into it are written to the thread's tmpfs. What must be undone where the container's
 * mounts are not seen, `afterwards` gets: to be disposed when the thread has left the step's namespace.
 */
export function openContainerRoot(
  spec: ContainerSpec,
  namespaces: ThreadNamespaces,
  afterwards: Disposables,
): ContainerRoot {
  const stack = new Disposables();
  try {
    const path = namespaces.directory("root");
    const hostname = spec.hostname ?? "lamella";
    const sources: {
      readonly mount: ContainerMount;
      readonly source: ByteString;
      readonly type: MountPoint["type"];
    }[] = [];
    for (const mount of [...engineFiles(namespaces, hostname), ...(spec.mounts ?? [])]) {
      if (mount.kind === "bind") {
        const source = openSource(mount.source, namespaces, sources.length, stack);
        const isDirectory = (sys.statx(AT_FDCWD, source, 0).mode & S_IFMT) === S_IFDIR;
        sources.push({ mount, source, type: isDirectory ? "directory" : "file" });
      } else if (mount.kind === "file") {
        const source = `${namespaces.directory("files")}/${sources.length}`;
        writeFile(source, mount.content, mount.mode);
        sys.lchownat(AT_FDCWD, source, mount.uid, mount.gid);
        sources.push({ mount, source, type: "file" });
      } else sources.push({ mount, source: "", type: "directory" });
    }
    const points: MountPoint[] = [
      { path: "/proc", type: "directory" },
      { path: "/sys", type: "directory" },
      { path: "/dev", type: "directory" },
      ...sources.map(({ mount, type }) => ({ path: mount.target, type })),
    ];
    const { fd, real } = mountWithStubs(spec, path, points, namespaces, stack, afterwards);
    const mounts = sources.map(({ mount, source }, i): ResolvedMount => {
      const target = real[i + 3] ?? mount.target;
      if (mount.kind === "tmpfs")
        return { kind: "tmpfs", target, sizeBytes: mount.sizeBytes, mode: mount.mode ?? 0o1777 };
      return { kind: "bind", source, target, readOnly: mount.kind === "bind" && mount.readOnly };
    });
    const [proc = "/proc", sysPath = "/sys", dev = "/dev"] = real;
    const owned = stack.move();
    return { path, fd, mounts, proc, sys: sysPath, dev, [Symbol.dispose]: () => owned[Symbol.dispose]() };
  } catch (error) {
    stack[Symbol.dispose]();
    throw error;
  }
}

/** Mounts the view and sees that all `points` exist; answers their real paths. */
function mountWithStubs(
  spec: ContainerSpec,
  path: ByteString,
  points: readonly MountPoint[],
  namespaces: ThreadNamespaces,
  stack: Disposables,
  afterwards: Disposables,
): { readonly fd: number; readonly real: readonly ByteString[] } {
  const { root: view, volatile = false } = spec;
  // The first mount only looks; it must not have been volatile, or the second could not be writable.
  const look = mountRoot(view.kind === "overlay" ? readOnlyView(view) : view, path);
  let resolved: ReturnType<typeof resolveMountPoints>;
  let extraLowers: ByteString[] = [];
  {
    using root = sys.open(path, O_PATH | O_DIRECTORY);
    resolved = resolveMountPoints(root.fd, points);
    if (view.kind === "overlay" && resolved.some(({ exists }) => !exists)) {
      const stubs = `${namespaces.directory("stubs")}`;
      sys.mount("lamella", stubs, "tmpfs", 0, "mode=0755");
      stack.defer(() => void raw.umount2(stubs, MNT_DETACH));
      fillStubLayer(root.fd, stubs, resolved);
      extraLowers = [stubs];
    }
  }
  const real = resolved.map(({ realPath }) => realPath);
  if (view.kind === "directory") {
    stack.use(look);
    // By the mount, since the path may lead elsewhere here; by the path where it does not, for that outlasts the mount.
    const root = afterwards.use(sys.open(view.mountFd === undefined ? view.path : path, O_PATH | O_DIRECTORY));
    afterwards.use(makeStubsInPlace(root.fd, resolved));
    return { fd: stack.use(sys.open(path, O_PATH | O_DIRECTORY)).fd, real };
  }
  look[Symbol.dispose]();
  stack.use(mountRoot(view, path, { volatile, extraLowers }));
  return { fd: stack.use(sys.open(path, O_PATH | O_DIRECTORY)).fd, real };
}

/** The same tree without its writable side: the upper as the topmost lower. */
function readOnlyView(view: Extract<LayerView, { kind: "overlay" }>): LayerView {
  if (view.upper === undefined) return view;
  return { ...view, lowers: [view.upper, ...view.lowers], upper: undefined, work: undefined };
}

/** resolv.conf, hosts and hostname. */
function engineFiles(namespaces: ThreadNamespaces, hostname: string): ContainerMount[] {
  const file = (name: string, content: Uint8Array): ContainerMount => ({
    kind: "file",
    content,
    target: `/etc/${name}`,
    mode: 0o644,
    uid: 0,
    gid: 0,
  });
  const hosts = `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t${hostname}\n`;
  const resolv = namespaces.network === "host" ? readHostFile("/etc/resolv.conf") : Buffer.alloc(0);
  return [
    file("resolv.conf", resolv),
    file("hosts", Buffer.from(hosts)),
    file("hostname", Buffer.from(`${hostname}\n`)),
  ];
}

function readHostFile(path: ByteString): Buffer {
  const fd = raw.openat(AT_FDCWD, path, 0);
  if (fd < 0) return Buffer.alloc(0);
  using file = new sys.OwnedFd(fd);
  const content = Buffer.alloc(64 * 1024);
  const n = raw.read(file.fd, content);
  return content.subarray(0, Math.max(0, n));
}

function openSource(source: MountSource, namespaces: ThreadNamespaces, index: number, stack: Disposables): ByteString {
  if (source.kind === "host") return source.path;
  let at: ByteString;
  if (source.kind === "directory") at = source.root;
  else {
    at = namespaces.directory(`source${index}`);
    stack.use(mountRoot(source.view, at));
  }
  using root = sys.open(at, O_PATH | O_DIRECTORY);
  using found = locate(root.fd, source.path);
  if (found.stat === undefined) {
    throw new LamellaError("not_found", "SOURCE_NOT_FOUND", `mount source ${textOfBytes(source.path)} does not exist`);
  }
  return found.path === "/" ? at : `${at === "/" ? "" : at}${found.path}`;
}

export function writeFile(path: ByteString, content: Uint8Array, mode: number): void {
  using file = sys.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  sys.writeAll(file.fd, content);
  raw.fchmod(file.fd, mode);
}
