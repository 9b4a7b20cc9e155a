/**
 * Size limits of overlay2's layers. A layer's `diff` and `work` share a project with a limit; the directory around them has
 * none, so that it can be renamed like any other. Docker sets limits on xfs alone; ext4 can do the same.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { ProjectQuota } from "../../fs/project-quota.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

export class Overlay2Quota {
  readonly #quota: ProjectQuota | string;

  /** The home exists with its folders. */
  constructor(home: ByteString) {
    this.#quota = ProjectQuota.open(home, `${home}/.lamella/quota-lock`);
  }

  /** Undefined when limits can be set. */
  get reason(): string | undefined {
    return typeof this.#quota === "string" ? this.#quota : undefined;
  }

  /** The error about a limit that is asked for in the driver's options. */
  optionError(backingFileSystem: string): LamellaError | undefined {
    if (typeof this.#quota !== "string") return undefined;
    const canHave = backingFileSystem === "xfs" || backingFileSystem === "extfs";
    return unsupported(
      canHave
        ? `Storage option overlay2.size not supported. Filesystem does not support Project Quota: ${this.#quota}`
        : `Storage Option overlay2.size only supported for backingFS XFS. Found ${backingFileSystem}`,
      canHave
        ? "leave out overlay2.size, or see to project quotas"
        : "leave out overlay2.size; ext4 will do as well as xfs",
    );
  }

  /** Limits a layer that is being made. Errors: failed_precondition where that is not possible. */
  limit(layer: ByteString, sizeBytes: number): void {
    if (typeof this.#quota === "string")
      throw unsupported(
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        `here ${this.#quota}; ext4 with \`prjquota\` will do as well`,
      );
    const work = `${layer}/work`;
    const hasWork = sys.statIfExists(AT_FDCWD, work) !== undefined;
    this.#quota.limit(hasWork ? [`${layer}/diff`, work] : [`${layer}/diff`], sizeBytes);
  }

  /** Before a layer's directory is deleted, which may be incomplete. */
  release(layer: ByteString): void {
    if (typeof this.#quota !== "string") this.#quota.release(`${layer}/diff`);
  }
}

function unsupported(message: string, hint: string): LamellaError {
  return new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", message, { hint });
}
