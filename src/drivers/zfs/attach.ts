/**
 * Mounting a layer's dataset, by the kernel or by the daemon (./abilities.ts). Synchronous: it runs while no other use of the
 * mount begins or ends.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { isMountPoint } from "../../fs/mounts.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Mounter } from "./abilities.ts";
import { type Programs, zfsError } from "./programs.ts";

/** Mounts a dataset at the directory `target`. */
export function attachDataset(
  { programs, mounter }: { readonly programs: Programs; readonly mounter: Mounter },
  dataset: string,
  target: ByteString,
): void {
  if (mounter === "kernel") mountByKernel(dataset, target);
  else mountByDaemon(programs, dataset, target);
}

function mountByKernel(dataset: string, target: ByteString): void {
  try {
    sys.mount(dataset, target, "zfs", 0, "");
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
    throw new LamellaError("data_loss", "LAYER_MISSING", `the dataset ${dataset} is missing`, {
      hint: "run `lamella check`",
      cause: error,
    });
  }
}

function mountByDaemon(programs: Programs, dataset: string, target: ByteString): void {
  let answer = programs.zfsWhenFreeSync(["mount", dataset]);
  if (isMountPoint(target)) return;
  if (answer.refusal === undefined) {
    // It went where the home was when the layer was made. Setting the property moves the mount.
    answer = programs.zfsSync(["set", `mountpoint=${textOfBytes(target)}`, dataset]);
    if (answer.refusal === undefined) programs.zfsWhenFreeSync(["mount", dataset]);
    if (isMountPoint(target)) return;
  }
  if (answer.refusal !== undefined && !/already mounted/.test(answer.stderr))
    throw zfsError(`mount ${dataset}`, answer);
  throw new LamellaError(
    "failed_precondition",
    "ZFS_MOUNTED_ELSEWHERE",
    `${dataset} is mounted, but not at ${textOfBytes(target)} as this process sees it`,
    { hint: "the zfs-fuse daemon mounts in its own mount namespace: run in the same one, or in one that mounts reach" },
  );
}
