/** CRC-32C (Castagnoli), as btrfs uses it. */

const table = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0x82f63b78);
  return crc;
});

/** Continues the checksum `crc` with `bytes`, inverting neither before nor after: btrfs's way, starting with 0. */
export function crc32c(crc: number, bytes: Uint8Array): number {
  let sum = crc;
  for (let i = 0; i < bytes.length; i++) sum = (sum >>> 8) ^ (table[(sum ^ (bytes[i] as number)) & 0xff] as number);
  return sum >>> 0;
}
