/**
 * A pool of its own for one test process, in a file. Where the kernel has ZFS, that makes it. Elsewhere a zfs-fuse daemon does,
 * started in the process's private mount namespace with its socket and lock file on a tmpfs there; it dies with the process
 * that started it, however that ends.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after } from "node:test";
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { letDaemonCatchUp } from "../../src/drivers/zfs/catch-up.ts";
import { findProgram } from "../../src/fs/find-program.ts";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { sleepSync, umount } from "../../src/fs/mounts.ts";
import type { Place } from "./file-systems.ts";
import { privateMounts } from "./overlay-lab.ts";

/** A pool, mounted at `directory`. */
export interface ZfsPlace extends Place {
  /** Name of the pool, which is that of its root dataset. */
  readonly pool: string;
}

/** Where the daemon keeps what only one of its kind may have. */
const daemonFolders = ["/var/lock", "/var/run/zfs", "/var/lib/zfs"];
/** What is to be done when the tests of this process are over, the last first. */
const undo: (() => void)[] = [];

/**
 * Makes a pool, and starts the daemon where one is needed. Both are gone when the tests of this process are over, or with
 * what `atEnd` is given.
 */
export function zfsPlace(
  options: { readonly size?: string; readonly atEnd?: (end: () => void) => void } = {},
): ZfsPlace {
  const pool = `lamella${process.pid}`;
  const base = mkdtempSync(join(tmpdir(), "lamella-zfs-"));
  const directory = join(base, "pool");
  undo.push(() => rmSync(base, { recursive: true }));
  (options.atEnd ?? after)(() => {
    for (const step of undo.splice(0).reverse()) step();
  });
  const missing = whatIsMissing() ?? (mounterHere() === "daemon" ? startDaemon() : undefined);
  if (missing !== undefined) return { directory, pool, skip: missing };
  execFileSync("truncate", ["-s", options.size ?? "2G", join(base, "image")]);
  const made = spawnSync("zpool", ["create", "-m", directory, pool, join(base, "image")], { encoding: "utf8" });
  undo.push(() => {
    letDaemonCatchUp(pool);
    for (const { type, mountPoint } of readMountInfo().reverse())
      if (type.endsWith("zfs") && mountPoint.startsWith(directory)) umount(mountPoint);
    if (mounterHere() === "kernel") spawnSync("zpool", ["destroy", "-f", pool]);
  });
  if (mounterHere() === "daemon") startWaker(directory);
  return { directory, pool, skip: made.status === 0 ? undefined : `no pool: ${made.stderr}` };
}

function whatIsMissing(): string | undefined {
  const mounts = privateMounts();
  if (mounts !== true) return mounts;
  const needed = mounterHere() === "kernel" ? ["zfs", "zpool"] : ["zfs", "zpool", "zfs-fuse"];
  const program = needed.find((name) => findProgram(name) === undefined);
  if (program !== undefined) return `no ${program} (Debian: zfs-fuse)`;
  return mounterHere() === "kernel" || existsSync("/dev/fuse") ? undefined : "no /dev/fuse";
}

/** Why it does not start, if it does not. */
function startDaemon(): string | undefined {
  for (const folder of daemonFolders) hide(folder);
  mkdirSync("/var/lock/zfs");
  const options = ["-a", "3600", "-e", "3600", "-o", "default_permissions", "--enable-xattr"];
  const command = ["--pdeathsig", "KILL", "zfs-fuse", "--no-daemon", "--no-kstat-mount", ...options];
  const daemon = spawn("setpriv", command, { stdio: "ignore", env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
  daemon.unref();
  undo.push(() => void daemon.kill("SIGKILL"));
  for (let i = 0; i < 400; i++) {
    if (existsSync("/var/run/zfs/zfs_socket")) return undefined;
    sleepSync(25);
  }
  return "the zfs-fuse daemon does not start";
}

/** See ./zfs-fuse-waker-child.ts. */
function startWaker(directory: string): void {
  const program = join(import.meta.dirname, `zfs-fuse-waker-child${extname(import.meta.filename)}`);
  const command = ["--pdeathsig", "KILL", process.execPath, ...process.execArgv, program, directory];
  const waker = spawn("setpriv", command, { stdio: "ignore", env: { ...process.env, UV_THREADPOOL_SIZE: "256" } });
  waker.unref();
  undo.push(() => void waker.kill("SIGKILL"));
}

/** Puts an empty file system over a folder, which is made where there is none. */
function hide(folder: string): void {
  if (!existsSync(folder)) {
    mkdirSync(folder, { recursive: true });
    undo.push(() => rmdirSync(folder));
  }
  const path = realpathSync(folder);
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", path]);
  undo.push(() => void umount(path));
}

/** Runs `zfs`; a failing run throws. */
export function zfs(...args: string[]): string {
  letDaemonCatchUp(args.at(-1) ?? "");
  return execFileSync("zfs", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Names of all datasets and snapshots below a dataset. */
export function datasetsBelow(dataset: string): string[] {
  return zfs("list", "-H", "-r", "-t", "filesystem,snapshot", "-o", "name", dataset)
    .split("\n")
    .filter((name) => name !== "" && name !== dataset);
}
