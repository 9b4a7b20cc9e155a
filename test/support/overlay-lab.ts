/**
 * A laboratory for overlay tests: a temporary directory in a mount namespace of this thread's own, where the real kernel
 * mounts overlays over directories that a test fills. Everything is unmounted and removed on disposal; the namespace goes
 * with the process.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Change } from "../../src/diff/change.ts";
import type { OverlayXattrPrefix, UpperSource } from "../../src/diff/source.ts";
import { UpperDiffer, type UpperDifferOptions } from "../../src/diff/upper-differ.ts";
import { textOfBytes } from "../../src/lib/bytes.ts";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";

let entered: string | true | undefined;

/** Puts this thread into a private mount namespace, once. True, or the reason why it cannot. */
export function privateMounts(): true | string {
  if (entered !== undefined) return entered;
  const r = raw.unshare(C.CLONE_NEWNS);
  if (r < 0) entered = "mount namespaces need root (or a user namespace)";
  else {
    sys.mount("none", "/", "", C.MS_REC | C.MS_PRIVATE, "");
    entered = true;
  }
  return entered;
}

/** True in a process whose user namespace is not the initial one. */
export function inUserNamespace(): boolean {
  const map = execFileSync("cat", ["/proc/self/uid_map"], { encoding: "utf8" }).trim().split(/\s+/);
  return map[2] !== "4294967295";
}

export interface LabOptions {
  readonly redirectDir?: boolean;
  readonly metacopy?: boolean;
  readonly userxattr?: boolean;
  /** In memory instead of on the file system of the temporary directory. */
  readonly tmpfs?: boolean;
}

/** Layers, stacked and mounted one after another. */
export class OverlayLab implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "lamella-lab-"));
  readonly #options: LabOptions;
  /** Committed layers, the uppermost first. */
  layers: string[] = [];
  #count = 0;
  #mounted = false;
  upper = "";
  #work = "";

  constructor(options: LabOptions = {}) {
    this.#options = options;
    if (options.tmpfs) sys.mount("lamella-lab", this.directory, "tmpfs", 0, "mode=0755");
  }

  get merged(): string {
    return join(this.directory, "merged");
  }

  get prefix(): OverlayXattrPrefix {
    return this.#options.userxattr ? "user.overlay." : "trusted.overlay.";
  }

  /** Adds a layer directory by hand: `fill` runs in it. */
  base(fill: string): void {
    const layer = this.#newDirectory("layer");
    sh(fill, layer);
    this.layers.unshift(layer);
  }

  /** Mounts a fresh upper over the layers and runs `change` in the merged directory. */
  upperOver(change: string | ((merged: string) => void)): UpperSource {
    this.mount();
    if (typeof change === "string") sh(change, this.merged);
    else change(this.merged);
    return { kind: "upper", upper: this.upper, lowers: this.layers, prefix: this.prefix };
  }

  mount(): void {
    this.unmount();
    this.upper = this.#newDirectory("upper");
    this.#work = this.#newDirectory("work");
    this.#mountUpper();
  }

  /**
   * Mounts the present upper anew. In a user namespace the kernel shows the names of a copied-up inode under different inode
   * numbers until it forgets them, because it cannot record where the copy came from.
   */
  remount(): void {
    this.unmount();
    this.#mountUpper();
  }

  #mountUpper(): void {
    mkdirSync(this.merged, { recursive: true });
    const { redirectDir, metacopy, userxattr } = this.#options;
    const own = userxattr
      ? "userxattr"
      : `redirect_dir=${redirectDir ? "on" : "off"},metacopy=${metacopy ? "on" : "off"}`;
    const options = `index=off,${own},lowerdir=${this.layers.join(":")},upperdir=${this.upper},workdir=${this.#work}`;
    sys.mount("overlay", this.merged, "overlay", 0, options);
    this.#mounted = true;
  }

  unmount(): void {
    if (!this.#mounted) return;
    sys.umount2(this.merged, C.MNT_DETACH);
    this.#mounted = false;
  }

  /** Makes the present upper a layer; the next one goes on top of it. */
  commit(): void {
    this.unmount();
    this.layers.unshift(this.upper);
  }

  [Symbol.dispose](): void {
    this.unmount();
    if (this.#options.tmpfs) sys.umount2(this.directory, C.MNT_DETACH);
    // Not rmSync: it knows no paths longer than PATH_MAX.
    execFileSync("rm", ["-rf", this.directory]);
  }

  #newDirectory(kind: string): string {
    const path = join(this.directory, `${kind}${this.#count++}`);
    mkdirSync(path);
    return path;
  }
}

/** Runs shell commands in a directory; a failing one throws with its output. */
export function sh(script: string, cwd: string): void {
  execFileSync("sh", ["-euc", script], { cwd, stdio: ["ignore", "ignore", "pipe"] });
}

/** A change stream in short: `A path`, `M path`, `D path`, `O path`; links as ` -> target`, hard links ` = first`. */
export function short(change: Change): string {
  const path = textOfBytes(change.path) || ".";
  if (change.kind === "deleted") return `D ${path}`;
  if (change.kind === "opaque") return `O ${path}`;
  const tail =
    change.linkTo !== undefined
      ? ` = ${change.linkTo}`
      : change.linkTarget !== undefined
        ? ` -> ${change.linkTarget}`
        : "";
  const slash = (change.stat.mode & C.S_IFMT) === C.S_IFDIR ? "/" : "";
  return `${change.kind === "added" ? "A" : "M"} ${path}${slash}${tail}`;
}

/** The stream of an upper in short, and the contents of its files by path. */
export function readUpper(
  source: UpperSource,
  options: UpperDifferOptions = {},
): { changes: string[]; contents: Record<string, string>; visited: number } {
  const differ = new UpperDiffer(source, options);
  const changes: string[] = [];
  const contents: Record<string, string> = {};
  for (const change of differ.changes()) {
    changes.push(short(change));
    if ((change.kind === "added" || change.kind === "modified") && change.open) {
      using file = change.open();
      const buffer = Buffer.alloc(change.stat.size);
      for (let at = 0; at < buffer.length; ) {
        const n = sys.pread64(file.fd, buffer.subarray(at), buffer.length - at, at);
        if (n === 0) throw new Error(`${change.path}: shorter than its size`);
        at += n;
      }
      contents[change.path] = buffer.toString("latin1");
    }
  }
  return { changes, contents, visited: differ.visited };
}
