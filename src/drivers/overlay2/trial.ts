/**
 * Trials of overlayfs on the file system that will hold the layers. A trial mount is attached nowhere (see fs/overlay-mount.ts),
 * so it needs no mount namespace of its own and a crash leaves no mount; its directories go with it.
 */
import { readFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { withTrialOverlay } from "../../fs/overlay-mount.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, DT_DIR, O_CREAT, O_DIRECTORY, O_RDONLY, O_WRONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";

/** Directories for one trial overlay, with a lower layer (two where there are to be no upper and work) to try things on. */
export interface TrialLayers {
  readonly lower: ByteString;
  readonly upper: ByteString;
  readonly work: ByteString;
  readonly target: ByteString;
}

/** Makes `lower/{dir/,dir/file,empty/,file}`, `upper/`, `work/` and `target/` under `directory`/`name`. */
export function makeTrialLayers(directory: ByteString, name: string): TrialLayers {
  const at = `${directory}/${name}`;
  for (const sub of ["", "/lower", "/lower/dir", "/lower/empty", "/upper", "/work", "/target"])
    sys.mkdirat(AT_FDCWD, `${at}${sub}`, 0o755);
  for (const file of ["/lower/file", "/lower/dir/file"]) {
    using created = sys.open(`${at}${file}`, O_WRONLY | O_CREAT, 0o700);
    sys.writeAll(created.fd, Buffer.from("content"));
  }
  return { lower: `${at}/lower`, upper: `${at}/upper`, work: `${at}/work`, target: `${at}/target` };
}

/** Mounts trial layers with `options` while `use` runs. Errors: those of the mount. */
export function withTrialMount<T>(layers: TrialLayers, options: readonly string[], use: (rootFd: number) => T): T {
  const { lower, upper, work, target } = layers;
  return withTrialOverlay({ lowers: [lower], upper, work, options }, target, use);
}

export interface Seen {
  readonly ok: boolean;
  readonly reason: string;
}

/** Renames a lower directory in the mounted trial: does it work, and leave a redirect? */
export function seeRedirect(layers: TrialLayers, rootFd: number): Seen {
  const r = raw.renameat2(rootFd, "dir", rootFd, "moved");
  if (r === -18) return { ok: false, reason: "renaming a directory of a lower layer gave EXDEV" };
  if (r < 0) return { ok: false, reason: `renaming a directory of a lower layer gave errno ${-r}` };
  const redirect = sys.lgetxattrat(AT_FDCWD, `${layers.upper}/moved`, "trusted.overlay.redirect");
  return redirect?.toString("latin1") === "dir"
    ? { ok: true, reason: "renaming a directory of a lower layer left a redirect and copied nothing" }
    : { ok: false, reason: "renaming a directory of a lower layer left no redirect" };
}

/** Changes the mode of a lower file in the mounted trial: is its data left below? */
export function seeMetacopy(layers: TrialLayers, rootFd: number): Seen {
  sys.lchmodat(rootFd, "file", 0o600);
  const marked = sys.lgetxattrat(AT_FDCWD, `${layers.upper}/file`, "trusted.overlay.metacopy") !== undefined;
  return marked
    ? { ok: true, reason: "changing a file's mode copied its metadata alone" }
    : { ok: false, reason: "changing a file's mode copied its data too" };
}

/** Does the file system tell the types of names in its directories? */
export function seeDType(directory: ByteString): Seen {
  using opened = sys.open(directory, O_RDONLY | O_DIRECTORY);
  const entry = sys.readdir(opened.fd).find(({ name }) => name === "dir");
  return entry?.type === DT_DIR
    ? { ok: true, reason: "getdents64 tells the types of names" }
    : { ok: false, reason: "getdents64 does not tell the types of names" };
}

/** True in any user namespace but the initial one. */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
  } catch {
    return false;
  }
}

const CAP_SYS_ADMIN = 21n;

/** True when this thread may mount, as far as capabilities go. */
export function mayMount(): boolean {
  const sets = raw.capget();
  return typeof sets !== "number" && (sets.effective & (1n << CAP_SYS_ADMIN)) !== 0n;
}

/** What an error says, for a probe's reason. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof LamellaError)) throw error;
  return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
}
