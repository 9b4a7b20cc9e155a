/**
 * What the codec for zstd must offer. Node.js 20 has none, so it is injected: `src/sys/zstd.ts` binds the system's libzstd;
 * `pureZstd` (zstd-pure.ts) decodes where there is none.
 */

/** One stream being compressed or decompressed. Dispose it when done with it, whether it ended or not. */
export interface ZstdStream extends Disposable {
  /** Takes the next input bytes; yields the output that is ready. Each output chunk is the receiver's to keep. */
  push(chunk: Uint8Array): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** Ends the input; yields what remains. A decompressor throws `data_loss` when the input stopped inside a frame. */
  end(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** A zstd implementation. */
export interface ZstdCodec {
  /** Its name and version, e.g. `libzstd 1.5.4`. */
  readonly name: string;
  /**
   * Decodes every frame of the stream and passes over skippable ones. A frame whose window is larger than
   * `maxWindowBytes` is refused with {@link zstdWindowError}, before memory is taken for it.
   */
  decompressor(options: { readonly maxWindowBytes: number }): ZstdStream;
  /** Absent where the implementation only decodes. The same input, level and version give the same bytes. */
  compressor?(options: { readonly level: number }): ZstdStream;
}
