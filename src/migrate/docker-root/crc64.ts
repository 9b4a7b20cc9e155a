/**
 * CRC-64 with the polynomial of ISO 3309 (x^64 + x^4 + x^3 + x + 1), bits reversed, as Go's `crc64.ISO` computes it: the
 * checksum of file contents in tar-split.
 *
 * The polynomial has so few terms that no table is needed. Reversed, bit 63 stands for x^0 and multiplying by x shifts
 * right. Taking in 32 bits multiplies the remainder by x^32; its low half X then stands above x^63 and is worth
 * X · (1 + x + x^3 + x^4), which overflows by four bits at most. That is two words and a few shifts a step.
 */

export class Crc64 {
  #high = -1;
  #low = -1;

  /** Adds bytes. */
  update(bytes: Uint8Array): void {
    const lead = -bytes.byteOffset & 3;
    const count = Math.max(0, bytes.length - lead) >>> 2;
    if (count === 0) {
      this.#byByte(bytes);
      return;
    }
    this.#byByte(bytes.subarray(0, lead));
    let high = this.#high;
    let low = this.#low;
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + lead, count);
    for (let i = 0; i < count; i++) {
      const x = low ^ (words[i] as number);
      low = high ^ (x << 31) ^ (x << 29) ^ (x << 28);
      high = x ^ (x >>> 1) ^ (x >>> 3) ^ (x >>> 4);
    }
    this.#high = high;
    this.#low = low;
    this.#byByte(bytes.subarray(lead + count * 4));
  }

  /** The same eight bits at a time: the product then stays within the high word. */
  #byByte(bytes: Uint8Array): void {
    for (const byte of bytes) {
      const x = (this.#low ^ byte) & 0xff;
      this.#low = (this.#low >>> 8) | (this.#high << 24);
      this.#high = (this.#high >>> 8) ^ (x << 24) ^ (x << 23) ^ (x << 21) ^ (x << 20);
    }
  }

  /** The checksum of all bytes so far, most significant byte first. */
  digest(): Buffer {
    const sum = Buffer.allocUnsafe(8);
    sum.writeInt32BE(~this.#high, 0);
    sum.writeInt32BE(~this.#low, 4);
    return sum;
  }

  /** Starts over. */
  reset(): void {
    this.#high = -1;
    this.#low = -1;
  }
}
