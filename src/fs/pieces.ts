/**
 * A stream of bytes that a worker thread makes and the main thread reads: in pieces of 1 MiB that change hands, a few made
 * ahead of the reader. The two agree through shared memory, a word for the pieces that the reader has done with and one that
 * says he wants no more, so the thread may block while it waits.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import type { JobContext } from "./worker-pool.ts";

const pieceBytes = 1024 * 1024;
/** Pieces that may be on their way at once. */
const maxPieces = 4;
const turnMs = 50;

/** Part of every job that sends pieces. Word 0: pieces done with; word 1: 1 when no more are wanted. */
export interface PieceJob {
  readonly credit: SharedArrayBuffer;
}

/** A piece: memory of its own, to be handed on. */
export type Piece = Uint8Array<ArrayBuffer>;

/** In the main thread: runs a job and answers the pieces it sends. Ends when the job does; its error comes last. */
export async function* receivePieces(
  run: (
    credit: SharedArrayBuffer,
    options: { readonly signal: AbortSignal; readonly onEvent: (piece: Uint8Array) => void },
  ) => Promise<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const credit = new SharedArrayBuffer(8);
  const words = new Int32Array(credit);
  const pieces: Uint8Array[] = [];
  let outcome: { readonly error?: unknown } | undefined;
  let wake = (): void => {};
  const abandon = new AbortController();
  const onEvent = (piece: Uint8Array): void => {
    pieces.push(piece);
    wake();
  };
  const done = run(credit, {
    signal: signal === undefined ? abandon.signal : AbortSignal.any([signal, abandon.signal]),
    onEvent,
  })
    .then(
      () => {
        outcome = {};
      },
      (error: unknown) => {
        outcome = { error };
      },
    )
    .finally(() => wake());
  try {
    for (;;) {
      const piece = pieces.shift();
      if (piece !== undefined) {
        yield piece;
        Atomics.add(words, 0, 1);
        Atomics.notify(words, 0);
      } else if (outcome !== undefined) break;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    if ("error" in outcome) throw outcome.error;
  } finally {
    // A reader that stops early does not leave the thread waiting for it.
    if (outcome === undefined) abandon.abort(new LamellaError("canceled", "ABORTED", "the reader stopped"));
    Atomics.store(words, 1, 1);
    Atomics.notify(words, 0);
    await done;
  }
}

/** In a worker thread: what sends a piece, blocking while the reader is behind. */
export function pieceSender({ credit }: PieceJob, context: JobContext<Uint8Array>): (piece: Piece) => void {
  const words = new Int32Array(credit);
  let posted = 0;
  return (piece) => {
    for (;;) {
      context.throwIfCanceled();
      const done = Atomics.load(words, 0);
      if (posted - done < maxPieces || Atomics.load(words, 1) === 1) break;
      Atomics.wait(words, 0, done, turnMs);
    }
    posted++;
    context.post(piece, [piece.buffer]);
  };
}

/** Collects bytes into pieces. */
export class PieceBuffer {
  readonly #deliver: (piece: Piece) => void;
  #piece = Buffer.from(new ArrayBuffer(pieceBytes));
  #at = 0;

  constructor(deliver: (piece: Piece) => void) {
    this.#deliver = deliver;
  }

  /** The free rest of the present piece, never empty: fill some of it, then call {@link advance}. */
  get free(): Buffer {
    return this.#piece.subarray(this.#at);
  }

  /** The first `bytes` bytes of `free` are filled now. */
  advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at === pieceBytes) this.flush();
  }

  /** Adds bytes. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const taken = bytes.copy(this.#piece, this.#at, at);
      at += taken;
      this.advance(taken);
    }
  }

  /** Delivers what there is. */
  flush(): void {
    if (this.#at === 0) return;
    const piece = this.#piece.subarray(0, this.#at);
    this.#piece = Buffer.from(new ArrayBuffer(pieceBytes));
    this.#at = 0;
    this.#deliver(piece);
  }
}
