/**
 * Whether the driver btrfs can run, and what it can do: each question by itself, answered by trying it on the file system that
 * will hold the layers. Nothing is left behind, and quotas are not turned on.
 */
import { isLamellaError } from "../../errors/lamella-error.ts";
import { errnoNames, hasCode } from "../../errors/syscall-error.ts";
import { fileSystemName } from "../../fs/file-system-name.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import {
  BTRFS_SUPER_MAGIC,
  createSnapshot,
  createSubvolume,
  destroySubvolume,
  sendWithoutData,
  setSubvolumeReadOnly,
  subvolumeInfo,
} from "../../sys/btrfs.ts";
import { quotaIsOn } from "../../sys/btrfs-quota.ts";
import { O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { ProbeResult } from "../driver.ts";
import { nearestDirectory, TrialDirectory } from "../trial-directory.ts";
import { removeSubvolume } from "./subvolumes.ts";

interface Question {
  readonly name: string;
  readonly required: boolean;
  readonly remedy: string;
  /** What was seen; throws SyscallError when the answer is no. `fd`: a directory to try things in. */
  readonly ask: (fd: number) => string | Promise<string>;
}

const asRoot = "run as root, outside a user namespace";

/** Each builds on what the ones before have made. */
const questions: readonly Question[] = [
  {
    name: "subvolume",
    required: true,
    remedy: "see that the file system is writable and not full",
    ask: async (fd) => {
      await createSubvolume(fd, "parent");
      return "a subvolume could be made";
    },
  },
  {
    name: "snapshot",
    required: true,
    remedy: "see that the file system is writable and not full",
    ask: async (fd) => {
      using parent = openIn(fd, "parent");
      await setSubvolumeReadOnly(parent.fd, true);
      await createSnapshot(fd, "child", { fd: parent.fd, readOnly: true });
      return "a subvolume could be set read-only, and a snapshot be made of it";
    },
  },
  {
    name: "send",
    required: false,
    remedy: `${asRoot}; without it, changes are found by their times`,
    ask: (fd) => {
      using parent = openIn(fd, "parent");
      using child = openIn(fd, "child");
      using stream = sys.memfd_create("lamella-send");
      const r = sendWithoutData(child.fd, subvolumeInfo(parent.fd).id, stream.fd);
      if (r < 0) throw new Refusal(`BTRFS_IOC_SEND gave ${errnoNames.get(-r) ?? -r}`);
      return "the kernel tells what differs between two subvolumes (BTRFS_IOC_SEND)";
    },
  },
  {
    name: "destroy",
    required: false,
    remedy: "mount the file system with user_subvol_rm_allowed, or run as root: else layers are deleted file by file",
    ask: async (fd) => {
      await destroySubvolume(fd, "child");
      return "a subvolume could be destroyed";
    },
  },
  {
    name: "quota",
    required: false,
    remedy: `${asRoot}; without it, layers have no size limit`,
    ask: (fd) => `quotas are ${quotaIsOn(fd) ? "on" : "off, and can be turned on"}`,
  },
];

class Refusal extends Error {}

function openIn(fd: number, name: ByteString): sys.OwnedFd {
  return new sys.OwnedFd(sys.openat(fd, name, O_RDONLY | O_DIRECTORY));
}

/** Whether the file system that holds the home, or will, is btrfs. */
export function probeFileSystem(home: ByteString): ProbeResult {
  const directory = nearestDirectory(home);
  const { type } = sys.statfs(directory);
  const name = "file_system";
  const reason = `${textOfBytes(directory)} lies on ${fileSystemName(type)}`;
  if (type === BTRFS_SUPER_MAGIC) return { name, ok: true, reason, required: true };
  return { name, ok: false, reason, remedy: "put the root on a btrfs file system, or use overlay2", required: true };
}

/** Errors: those of making a directory near `home`. */
export async function probeBtrfs(home: ByteString): Promise<readonly ProbeResult[]> {
  const results = [probeFileSystem(home)];
  if (results[0]?.ok !== true) return results;
  using trial = new TrialDirectory(home);
  using directory = sys.open(trial.path, O_RDONLY | O_DIRECTORY);
  try {
    for (const question of questions) results.push(await answer(question, directory.fd, results));
  } finally {
    for (const name of ["child", "parent"]) await removeSubvolume(directory.fd, name);
  }
  return results;
}

async function answer(
  { name, required, remedy, ask }: Question,
  fd: number,
  before: readonly ProbeResult[],
): Promise<ProbeResult> {
  const missing = before.find((result) => result.required && !result.ok);
  if (missing !== undefined) return { name, ok: false, reason: `not tried: no ${missing.name}`, remedy, required };
  try {
    return { name, ok: true, reason: await ask(fd), required };
  } catch (error) {
    if (!isLamellaError(error) && !(error instanceof Refusal)) throw error;
    return { name, ok: false, reason: error.message, remedy, required };
  }
}

/** Why the file system's trees can be neither read nor sent; undefined when they can. Cheap. */
export function lackOfPrivilege(home: ByteString): string | undefined {
  using directory = sys.open(home, O_RDONLY | O_DIRECTORY);
  try {
    quotaIsOn(directory.fd);
    return undefined;
  } catch (error) {
    if (!hasCode(error, "EPERM")) throw error;
    return "needs CAP_SYS_ADMIN outside a user namespace";
  }
}
