/** What a tree takes on disk. */
import type { ByteString } from "../lib/bytes.ts";
import { type WalkOptions, walkTree } from "./walk.ts";

/** Bytes and inodes of a tree on disk. */
export interface DiskUsage {
  /** Allocated blocks × 512, hard links once, the root included: equal to `du -s -B1` (with `oneFileSystem`: `du -xs -B1`). */
  readonly sizeBytes: number;
  /** Objects, hard links once: equal to `du -s --inodes`. */
  readonly inodes: number;
}

/** Measures the directory at `path` (absolute). Errors: SyscallError with the path; `canceled`. */
export async function diskUsage(path: ByteString, options: WalkOptions = {}): Promise<DiskUsage> {
  const totals = await walkTree(path, options);
  return { sizeBytes: totals.allocatedBytes, inodes: totals.inodes };
}
