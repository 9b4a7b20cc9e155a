/**
 * What each process has in hand. Every open store has one file in <root>/locks/<driver>/, locked (flock) as long as the
 * store is open, and in it a slot for each layer and blob it works on: made but not published, published but needed a
 * moment longer, or forgotten by the tables but not yet deleted from disk.
 *
 *   p-<24 hex>     slots of 67 bytes: "L <64 hex>\n" a layer, "B <64 hex>\n" a blob, 66 spaces and "\n" for a free one
 *   start          locked while a process opens the store and reclaims (chain-lock.ts has the lock)
 *   sweep          its presence asks the next start that finds nobody else at work for a full sweep
 *
 * A slot is written before the thing exists, and cleared after it is published or gone. So a file that nobody has locked
 * was left by a crash, and lists all that may have to be reclaimed; whatever the tables refer to, or another living process
 * holds, stays. Slots need no flush: they outlive their process, and after a crash of the machine all is swept anyhow.
 *
 * To rely on a published layer, a process writes its slot and then looks the layer up, both inside one transaction; whoever
 * removes layers reads all slots inside his. LMDB's writer lock makes the two exclude each other.
 */
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { SyscallError } from "../errors/syscall-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { AT_FDCWD, LOCK_EX, LOCK_NB, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const ENOSPC = 28;
const slotBytes = 67;
const freeSlot = Buffer.from(`${" ".repeat(slotBytes - 1)}\n`);
const ownerPattern = /^p-[0-9a-f]{24}$/;
const slotPattern = /^([LB]) ([0-9a-f]{64})$/;

/** The hexadecimal names a process holds. */
export interface HeldNames {
  readonly layers: ReadonlySet<string>;
  readonly blobs: ReadonlySet<string>;
}

type Kind = "L" | "B";

/** The file of this process. */
export class Holds implements Disposable {
  /** Name of the file; also the name of this process's directory for temporary files. */
  readonly owner: string;
  readonly #path: string;
  readonly #file: sys.OwnedFd;
  readonly #slots = new Map<string, { readonly slot: number; uses: number }>();
  readonly #free: number[] = [];
  #length = 0;

  /** Makes and locks the file. The caller has the start lock, so nobody takes it for a dead one's in between. */
  constructor(directory: string) {
    this.owner = `p-${randomBytes(12).toString("hex")}`;
    this.#path = `${directory}/${this.owner}`;
    this.#file = sys.open(bytesOfText(this.#path), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    sys.flock(this.#file.fd, LOCK_EX);
  }

  holdLayer(hex: string): void {
    this.#hold("L", hex);
  }

  holdBlob(hex: string): void {
    this.#hold("B", hex);
  }

  releaseLayer(hex: string): void {
    this.#release("L", hex);
  }

  releaseBlob(hex: string): void {
    this.#release("B", hex);
  }

  /** What this process holds. */
  get names(): HeldNames {
    const names = emptyNames();
    addSlots([...this.#slots.keys()].join(""), names);
    return names;
  }

  /** How often this process holds a blob. */
  blobUses(hex: string): number {
    return this.#slots.get(`B ${hex}\n`)?.uses ?? 0;
  }

  #hold(kind: Kind, hex: string): void {
    const text = `${kind} ${hex}\n`;
    const held = this.#slots.get(text);
    if (held !== undefined) {
      held.uses++;
      return;
    }
    const slot = this.#free.pop() ?? this.#length++;
    this.#write(slot, Buffer.from(text));
    this.#slots.set(text, { slot, uses: 1 });
  }

  #release(kind: Kind, hex: string): void {
    const text = `${kind} ${hex}\n`;
    const held = this.#slots.get(text);
    if (held === undefined || --held.uses > 0) return;
    this.#slots.delete(text);
    if (this.#slots.size === 0) {
      sys.ftruncate(this.#file.fd, 0);
      this.#free.length = 0;
      this.#length = 0;
      return;
    }
    this.#write(held.slot, freeSlot);
    this.#free.push(held.slot);
  }

  #write(slot: number, bytes: Buffer): void {
    const n = raw.pwrite64(this.#file.fd, bytes, slotBytes, slot * slotBytes);
    if (n !== slotBytes) throw new SyscallError("pwrite64", n < 0 ? -n : ENOSPC, this.#path);
  }

  /** Ends the process's claims. */
  [Symbol.dispose](): void {
    raw.unlinkat(AT_FDCWD, bytesOfText(this.#path));
    this.#file[Symbol.dispose]();
  }
}

/** What the files of other processes say. */
export interface OtherHolds {
  readonly living: HeldNames;
  readonly livingOwners: readonly string[];
  readonly dead: HeldNames;
  readonly deadOwners: readonly string[];
}

/** Reads the files of all processes but `self`. A file whose lock is free belongs to a dead one. */
export function readOtherHolds(directory: string, self: string | undefined): OtherHolds {
  const sets = { living: emptyNames(), dead: emptyNames() };
  const livingOwners: string[] = [];
  const deadOwners: string[] = [];
  for (const name of readdirSync(directory)) {
    if (!ownerPattern.test(name) || name === self) continue;
    const path = bytesOfText(`${directory}/${name}`);
    const fd = raw.openat(AT_FDCWD, path, O_RDWR | O_NOFOLLOW);
    if (fd < 0) continue;
    using file = new sys.OwnedFd(fd);
    const isDead = sys.flock(file.fd, LOCK_EX | LOCK_NB);
    (isDead ? deadOwners : livingOwners).push(name);
    addSlots(readFileSync(`/proc/self/fd/${file.fd}`, "latin1"), isDead ? sets.dead : sets.living);
  }
  return { ...sets, livingOwners, deadOwners };
}

/** All that any process holds, the dead included: what must not be removed. `except` leaves one process out. */
export function readAllHolds(directory: string, except?: string): HeldNames {
  const names = emptyNames();
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    if (!ownerPattern.test(name) || name === except) continue;
    try {
      addSlots(readFileSync(`${directory}/${name}`, "latin1"), names);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return names;
}

interface MutableNames {
  readonly layers: Set<string>;
  readonly blobs: Set<string>;
}

function emptyNames(): MutableNames {
  return { layers: new Set(), blobs: new Set() };
}

function addSlots(text: string, into: MutableNames): void {
  for (const line of text.split("\n")) {
    const [, kind, hex] = slotPattern.exec(line) ?? [];
    if (hex !== undefined) (kind === "L" ? into.layers : into.blobs).add(hex);
  }
}
