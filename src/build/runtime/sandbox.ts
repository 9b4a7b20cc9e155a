/**
 * The built-in sandbox: runs a container with system calls of the calling thread and no other program.
 *
 * The thread is in fresh mount, IPC and UTS namespaces (ThreadNamespaces.step) and has a pid namespace for its children
 * (PidNamespace). It mounts what Docker mounts, pivots into the root, drops every capability outside Docker's default set
 * from its bounding set, takes the user's ids (keeping 0 as the saved id, which an exec drops, so that it can come back)
 * and spawns. The child inherits all of it.
 *
 * Differences from crun: the command is not process 1, and system calls are not filtered (nor are they with the crun
 * configuration Lamella writes).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { ImageUser } from "../image-user.ts";
import { locate } from "../rooted-path.ts";
import { defaultCapabilities, LAST_CAPABILITY, maskedPaths, readOnlyPaths } from "./capabilities.ts";
import { type ContainerRoot, writeFile } from "./container-root.ts";

const EPERM = 1;
const NO_ACCESS = C.MS_NOSUID | C.MS_NODEV | C.MS_NOEXEC;

const devices = [
  ["null", 1, 3],
  ["zero", 1, 5],
  ["full", 1, 7],
  ["random", 1, 8],
  ["urandom", 1, 9],
  ["tty", 5, 0],
] as const;

const deviceLinks = [
  ["/proc/self/fd", "fd"],
  ["/proc/self/fd/0", "stdin"],
  ["/proc/self/fd/1", "stdout"],
  ["/proc/self/fd/2", "stderr"],
  ["pts/ptmx", "ptmx"],
  ["/proc/kcore", "core"],
] as const;

export interface SandboxMountOptions {
  /** Where the pid namespace's /proc is mounted; undefined: the host's is shown. */
  readonly procMount: ByteString | undefined;
  readonly readOnly: boolean;
  /** Whether group 5 (tty) exists here. */
  readonly ttyGroup: boolean;
}

/** Mounts /proc, /sys, /dev and all else in the root. */
export function mountSandbox(root: ContainerRoot, options: SandboxMountOptions): void {
  const at = (path: ByteString): ByteString => (path === "/" ? root.path : root.path + path);
  const { proc, dev } = root;
  bind(options.procMount ?? "/proc", at(proc), options.procMount === undefined);
  for (const path of readOnlyPaths) readOnlyBind(at(path.replace("/proc", proc)));

  if (raw.mount("sysfs", at(root.sys), "sysfs", C.MS_RDONLY | NO_ACCESS, "") < 0) {
    // A user namespace may mount one only for a network namespace of its own: show the host's, read-only.
    bind("/sys", at(root.sys), true);
    readOnlyTree(at(root.sys));
  }
  sys.mount("tmpfs", at(dev), "tmpfs", C.MS_NOSUID | C.MS_STRICTATIME, "mode=755,size=65536k");
  makeDevices(at(dev), options.ttyGroup);
  for (const path of maskedPaths) mask(at(path.replace("/proc", proc).replace("/sys", root.sys)), at(`${dev}/null`));
  for (const mount of root.mounts) {
    if (mount.kind === "tmpfs") {
      const size = mount.sizeBytes === undefined ? "" : `,size=${mount.sizeBytes}`;
      sys.mount("tmpfs", at(mount.target), "tmpfs", C.MS_NOSUID | C.MS_NODEV, `mode=0${mount.mode.toString(8)}${size}`);
    } else {
      bind(mount.source, at(mount.target), true);
      if (mount.readOnly) readOnlyTree(at(mount.target));
    }
  }
  if (options.readOnly) sys.mount("", root.path, "", C.MS_REMOUNT | C.MS_BIND | C.MS_RDONLY, "");
}

function makeDevices(dev: ByteString, ttyGroup: boolean): void {
  for (const [name, major, minor] of devices) {
    const path = `${dev}/${name}`;
    const made = raw.mknodat(C.AT_FDCWD, path, C.S_IFCHR | 0o666, major, minor);
    if (made >= 0) {
      sys.lchmodat(C.AT_FDCWD, path, 0o666);
      continue;
    }
    if (made !== -EPERM) throw new SyscallError("mknodat", -made, `/dev/${name}`);
    writeFile(path, new Uint8Array(), 0o666);
    bind(`/dev/${name}`, path, false);
  }
  for (const [target, name] of deviceLinks) sys.symlinkat(target, C.AT_FDCWD, `${dev}/${name}`);
  for (const name of ["pts", "shm", "mqueue"]) sys.mkdirat(C.AT_FDCWD, `${dev}/${name}`, 0o755);
  const group = ttyGroup ? ",gid=5" : "";
  sys.mount("devpts", `${dev}/pts`, "devpts", C.MS_NOSUID | C.MS_NOEXEC, `newinstance,ptmxmode=0666,mode=0620${group}`);
  sys.mount("shm", `${dev}/shm`, "tmpfs", NO_ACCESS, "mode=1777,size=65536k");
  // A kernel without POSIX message queues runs containers all the same.
  raw.mount("mqueue", `${dev}/mqueue`, "mqueue", NO_ACCESS, "");
}

function bind(source: ByteString, target: ByteString, recursive: boolean): void {
  sys.mount(source, target, "", C.MS_BIND | (recursive ? C.MS_REC : 0), "");
}

function readOnlyBind(path: ByteString): void {
  if (raw.mount(path, path, "", C.MS_BIND | C.MS_REC, "") < 0) return;
  readOnlyTree(path);
}

/** Makes a mount and all below it read-only: mount_setattr keeps the flags a user namespace may not change. */
function readOnlyTree(path: ByteString): void {
  const attributes = { set: C.MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };
  const r = raw.mount_setattr(C.AT_FDCWD, path, C.AT_RECURSIVE, attributes);
  if (r < 0) sys.mount("", path, "", C.MS_REMOUNT | C.MS_BIND | C.MS_RDONLY | NO_ACCESS, "");
}

function mask(path: ByteString, devNull: ByteString): void {
  const stat = sys.statIfExists(C.AT_FDCWD, path);
  if (stat === undefined) return;
  const isDirectory = (stat.mode & C.S_IFMT) === C.S_IFDIR;
  if (isDirectory) sys.mount("tmpfs", path, "tmpfs", C.MS_RDONLY | NO_ACCESS, "size=0k");
  else bind(devNull, path, false);
}

/** Makes the mounted root the root of the thread; what was the root is out of reach. */
export function enterRoot(path: ByteString): void {
  sys.chdir(path);
  sys.pivot_root(".", ".");
  sys.umount2(".", C.MNT_DETACH);
  sys.chdir("/");
}

/** The directory a command starts in. Resolved in the root, so that no descriptor or link leads out (CVE-2024-21626). */
export function enterDirectory(cwd: ByteString): void {
  using root = sys.open("/", C.O_PATH | C.O_DIRECTORY);
  using found = locate(root.fd, cwd);
  if (found.stat === undefined)
    throw new LamellaError("not_found", "NO_WORKDIR", `the working directory ${textOfBytes(cwd)} does not exist`);
  using directory = new sys.OwnedFd(
    sys.openat(found.directory, found.name ?? ".", C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW),
  );
  const r = raw.fchdir(directory.fd);
  if (r < 0) throw new SyscallError("fchdir", -r, textOfBytes(cwd));
}

let boundingSetDropped = false;
/** Takes from the thread's children, for ever, all capabilities outside the default set. The thread keeps its own. */
export function dropBoundingSet(): void {
  if (boundingSetDropped) return;
  const kept = new Set(defaultCapabilities.values());
  for (let capability = 0; capability <= LAST_CAPABILITY; capability++) {
    if (kept.has(capability)) continue;
    // EINVAL: the kernel has no capability of that number, nor any higher.
    if (raw.prctl(C.PR_CAPBSET_DROP, capability) < 0) break;
  }
  const sets = raw.capget();
  if (typeof sets !== "number") raw.capset({ ...sets, inheritable: 0n });
  raw.prctl(C.PR_CAP_AMBIENT, C.PR_CAP_AMBIENT_CLEAR_ALL);
  boundingSetDropped = true;
}

export interface SandboxCommand {
  /** Absolute path in the root. */
  readonly executable: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly user: ImageUser;
  readonly maySetGroups: boolean;
  /** Descriptors or `pipe` for 0, 1, 2. */
  readonly stdio: readonly (number | "pipe" | "inherit")[];
  readonly newSession: boolean;
}

/** Forks and executes as the user, in the thread's present root and directory. Never throws for what exec refuses: that is an `error` event. */
export function spawnAs(command: SandboxCommand): ChildProcess {
  const { user } = command;
  const restore = becomeUser(user, command.maySetGroups);
  try {
    raw.closeRangeCloexec(3);
    const env: Record<string, string> = {};
    for (const pair of command.env) {
      const equals = pair.indexOf("=");
      if (equals > 0) env[pair.slice(0, equals)] = pair.slice(equals + 1);
    }
    const [name = "", ...rest] = command.args;
    return spawn(command.executable, rest, {
      argv0: name,
      env,
      stdio: [...command.stdio],
      detached: command.newSession,
    });
  } finally {
    restore();
  }
}

/** Takes the user's ids on; the answer gives them up again. */
function becomeUser(user: ImageUser, maySetGroups: boolean): () => void {
  const check = (call: string, r: number): void => {
    if (r < 0) throw new SyscallError(call, -r, `user ${user.uid}:${user.gid}`);
  };
  // Where groups may not be set, those of the process stay: none of them exists in the namespace but the mapped one.
  if (maySetGroups) check("setgroups", raw.setgroups(user.groups));
  if (user.uid === 0 && user.gid === 0) return () => {};
  check("setresgid", raw.setresgid(user.gid, user.gid, 0));
  check("setresuid", raw.setresuid(user.uid, user.uid, 0));
  return () => {
    check("setresuid", raw.setresuid(0, 0, 0));
    check("setresgid", raw.setresgid(0, 0, 0));
    // A change of ids makes the whole process undumpable, which hides /proc/self from it in a user namespace.
    raw.prctl(C.PR_SET_DUMPABLE, 1);
  };
}
