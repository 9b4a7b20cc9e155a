/**
 * Is a dockerd at work on a root, and may none start meanwhile? dockerd reads its metadata once, at start, and has no lock of
 * its own; but it keeps databases open (bbolt), each with a lock on its file. Whoever has these locks keeps dockerd out: it
 * waits for a second and gives up. So they are tried, and held as long as the root is in use here.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { readMountInfo } from "../../fs/mountinfo.ts";
import type { RootDir } from "../../fs/root-dir.ts";
import { type ByteString, bytesOfText } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import { LOCK_EX, LOCK_NB, O_NOCTTY, O_NONBLOCK, O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

/** Databases beneath the root that a running dockerd of some version, or the containerd it started, has locked. */
const databases = [
  "volumes/metadata.db",
  "buildkit/cache.db",
  "buildkit/containerdmeta.db",
  "buildkit/metadata_v2.db",
  "buildkit/snapshots.db",
  "network/files/local-kv.db",
  "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db",
];

/** Keeps dockerd from a root until disposed. Errors: failed_precondition (DOCKER_RUNNING) when one is at work on it. */
export function keepDockerOut(root: RootDir, path: string): Disposable {
  using locks = new Disposables();
  for (const database of databases) {
    const file = openDatabase(root, database);
    if (file === undefined) continue;
    locks.use(file);
    if (!sys.flock(file.fd, LOCK_EX | LOCK_NB)) throw running(path, database);
  }
  return locks.move();
}

/** True when a dockerd is at work on a root. */
export function isDockerRunning(root: RootDir, path: string): boolean {
  try {
    keepDockerOut(root, path)[Symbol.dispose]();
    return false;
  } catch (error) {
    if (error instanceof LamellaError && error.code === "DOCKER_RUNNING") return true;
    throw error;
  }
}

/** Refuses a root with mounted layers: containers that run on without their daemon (live-restore). */
export function refuseMounts(home: ByteString): void {
  const mounted = readMountInfo().find(({ mountPoint }) => mountPoint.startsWith(`${home}/`));
  if (mounted === undefined) return;
  throw new LamellaError(
    "failed_precondition",
    "DOCKER_MOUNTED",
    `a layer of Docker is mounted at ${mounted.mountPoint}: a container still runs, or its mount was left behind`,
    { hint: "stop all containers (`docker stop`) before dockerd, or unmount it" },
  );
}

function openDatabase(root: RootDir, database: string): sys.OwnedFd | undefined {
  try {
    const flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    return root.open(bytesOfText(database), flags, 0, { escape: "refuse", symlinks: "refuse" });
  } catch (error) {
    if (error instanceof SyscallError && ["ENOENT", "ENOTDIR", "ELOOP"].includes(error.code)) return undefined;
    throw error;
  }
}

function running(path: string, database: string): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "DOCKER_RUNNING",
    `dockerd is running on ${path}: it has ${database} locked`,
    { hint: "stop it first: `systemctl stop docker.socket docker`" },
  );
}
