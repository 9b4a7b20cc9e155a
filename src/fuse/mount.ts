/**
 * Mounts a FUSE file system: by mount(2) where the process may, else through fusermount3, which is set-user-id root and hands
 * the descriptor of /dev/fuse back over a socket. The mount is there at once, but nothing on it answers before its session is
 * served; so nothing here looks at the mount point afterwards.
 */
import { spawnSync } from "node:child_process";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { findProgram } from "../fs/find-program.ts";
import { mountAt } from "../fs/mounts.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { flagBits, type MountFlag } from "./mount-flags.ts";
import { MAX_DATA } from "./negotiate.ts";

const EPERM = 1;
const ENOENT = 2;
const EINVAL = 22;
/** The descriptor by which fusermount3 knows its end of the socket. */
const SOCKET_OF_CHILD = 3;

export interface FuseMount {
  /** The directory to mount at, absolute. */
  readonly target: ByteString;
  /** What /proc/mounts names as the source, and behind `fuse.` as the type. */
  readonly source: string;
  readonly subtype: string;
  /** Users other than the one who mounts may use it. */
  readonly allowOther: boolean;
  readonly readOnly?: boolean;
  /** Of these the mount has the flags. */
  readonly flags?: readonly MountFlag[];
}

/** Mounts; answers the descriptor of /dev/fuse to serve. Errors: SyscallError; failed_precondition without fusermount3. */
export function mountFuse(mount: FuseMount): sys.OwnedFd {
  const device = sys.open("/dev/fuse", C.O_RDWR);
  const owner = [`user_id=${process.getuid?.() ?? 0}`, `group_id=${process.getgid?.() ?? 0}`];
  const options = [`fd=${device.fd}`, "rootmode=40000", ...owner, ...permissions(mount)];
  const flags = bitsOf(mount.flags, mount.readOnly);
  const r = raw.mount(mount.source, mount.target, `fuse.${mount.subtype}`, flags, options.join(","));
  if (r >= 0) {
    readAheadMore(mount.target);
    return device;
  }
  device[Symbol.dispose]();
  if (r !== -EPERM) throw new SyscallError("mount fuse", -r, textOfBytes(mount.target));
  return mountByProgram(mount);
}

/**
 * Lets the kernel read ahead by the longest request there is, which reads a third faster than its 128 KiB. Must come before
 * INIT is answered. Only root of the host may: elsewhere it stays as it is.
 */
function readAheadMore(target: ByteString): void {
  const mount = mountAt(target);
  if (mount === undefined) return;
  const setting = `/sys/class/bdi/${mount.devMajor}:${mount.devMinor}/read_ahead_kb`;
  const fd = raw.openat(C.AT_FDCWD, setting, C.O_WRONLY);
  if (fd < 0) return;
  raw.write(fd, Buffer.from(String(MAX_DATA / 1024)));
  raw.close(fd);
}

/** The kernel checks permissions by what the file system says of owner, mode and ACLs. */
function permissions({ allowOther }: FuseMount): string[] {
  return allowOther ? ["default_permissions", "allow_other"] : ["default_permissions"];
}

function mountByProgram(mount: FuseMount): sys.OwnedFd {
  const program = findProgram("fusermount3");
  if (program === undefined) {
    throw new LamellaError("failed_precondition", "NO_FUSERMOUNT", "mounting needs CAP_SYS_ADMIN or fusermount3", {
      hint: "install the package fuse3, or run as root",
    });
  }
  const pair = raw.socketpair();
  if (typeof pair === "number") throw new SyscallError("socketpair", -pair);
  using own = new sys.OwnedFd(pair[0]);
  using others = new sys.OwnedFd(pair[1]);
  const escaped = mount.source.replace(/[\\,]/g, "\\$&");
  const options = [`fsname=${escaped}`, `subtype=${mount.subtype}`, ...permissions(mount)];
  if (mount.readOnly) options.push("ro");
  // It knows no others; nosuid and nodev it sets by itself.
  options.push(...(mount.flags ?? []).filter((flag) => flag === "noexec" || flag === "noatime"));
  const { status, error, stderr } = spawnSync(program, ["-o", options.join(","), "--", textOfBytes(mount.target)], {
    env: { _FUSE_COMMFD: String(SOCKET_OF_CHILD) },
    stdio: ["ignore", "ignore", "pipe", others.fd],
    encoding: "utf8",
  });
  if (status !== 0) {
    const why = error?.message ?? stderr.trim();
    throw new LamellaError("failed_precondition", "FUSE_MOUNT", `${program} could not mount: ${why}`);
  }
  const fd = raw.receiveFd(own.fd);
  if (fd < 0) throw new SyscallError("recvmsg", -fd, program);
  return new sys.OwnedFd(fd);
}

/** Gives a mount other flags. Errors: SyscallError, EPERM without privileges. */
export function remountFuse(target: ByteString, { readOnly, flags }: Pick<FuseMount, "readOnly" | "flags">): void {
  const r = raw.mount("none", target, "", C.MS_REMOUNT | bitsOf(flags, readOnly), "");
  if (r < 0) throw new SyscallError("remount", -r, textOfBytes(target));
}

function bitsOf(flags: readonly MountFlag[] = [], readOnly = false): number {
  return flags.reduce((all, flag) => all | flagBits[flag], readOnly ? C.MS_RDONLY : 0);
}

/**
 * Takes a mount away at once; it ends with its last user. Without privileges fusermount3 does it. What is no longer there is
 * no error.
 */
export function unmountFuse(target: ByteString): void {
  const r = raw.umount2(target, C.MNT_DETACH | C.UMOUNT_NOFOLLOW);
  if (r >= 0 || r === -EINVAL || r === -ENOENT) return;
  const program = r === -EPERM ? findProgram("fusermount3") : undefined;
  if (program === undefined) throw new SyscallError("umount2", -r, textOfBytes(target));
  spawnSync(program, ["-u", "-z", "-q", "--", textOfBytes(target)], { stdio: "ignore" });
}
