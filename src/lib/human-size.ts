/** Sizes for people, as Docker prints them: decimal units, three significant digits. */

const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"] as const;

/** `1234567` is `1.23MB`. */
export function humanSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(3))}${units[unit]}`;
}
