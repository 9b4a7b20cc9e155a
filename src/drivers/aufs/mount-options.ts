/**
 * Mounting by the kernel's aufs: the strings that mount(2) takes. They may be as long as a page, so that the branches which do
 * not fit are appended by remounting. Source: aufs(5).
 *
 *     br:<rw>=rw:<ro>=ro+wh:...,dio,noplink,xino=<file>[,dirperm1]
 *     append:<ro>=ro+wh,append:...
 *
 * `ro+wh`: a read-only branch whose whiteouts count. `dio`: direct I/O works on files in it. `noplink`: hard links of a lower
 * branch are not kept together by names outside the branch's tree; what a layer is lies in its own branch. `xino`: where
 * inode numbers are kept, on a file system that is no branch.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { MS_RDONLY, MS_REMOUNT } from "../../sys/constants.ts";

export interface AufsMount {
  /** The uppermost branch, which is written to; undefined for a read-only mount. */
  readonly writable: ByteString | undefined;
  /** The uppermost first. */
  readonly readOnly: readonly ByteString[];
  /** Permissions of directories in lower branches do not count (aufs since Linux 3.10). */
  readonly dirperm1: boolean;
}

/** One call of mount(2) with the type `aufs`. */
export interface AufsMountCall {
  readonly flags: number;
  readonly data: ByteString;
}

const LONGEST_DATA = 4095;
const XINO = "/dev/shm/aufs.xino";

/** The calls that mount these branches. Errors: failed_precondition for paths the options cannot hold. */
export function aufsMountCalls({ writable, readOnly, dirperm1 }: AufsMount): AufsMountCall[] {
  const branches = readOnly.map((path) => `${plain(path)}=ro+wh`);
  const rest = `,dio,noplink,xino=${XINO}${dirperm1 ? ",dirperm1" : ""}`;
  let list = writable === undefined ? "br" : `br:${plain(writable)}=rw`;
  let next = 0;
  for (; next < branches.length; next++) {
    const longer = `${list}:${branches[next]}`;
    if (longer.length + rest.length > LONGEST_DATA) break;
    list = longer;
  }
  const flags = writable === undefined ? MS_RDONLY : 0;
  const calls: AufsMountCall[] = [{ flags, data: list + rest }];
  while (next < branches.length) {
    let data = `append:${branches[next++]}`;
    for (; next < branches.length; next++) {
      const longer = `${data},append:${branches[next]}`;
      if (longer.length > LONGEST_DATA) break;
      data = longer;
    }
    calls.push({ flags: flags | MS_REMOUNT, data });
  }
  return calls;
}

function plain(path: ByteString): ByteString {
  if (!/[:,=+]/.test(path)) return path;
  throw new LamellaError(
    "failed_precondition",
    "AUFS_PATH",
    `${textOfBytes(path)}: aufs takes no path with one of : , = +`,
    {
      hint: "use a root (`--root`) whose path has none of these",
    },
  );
}
