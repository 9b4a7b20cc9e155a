/**
 * File names are bytes. Inside Lamella a name or path is a *byte string*: a JavaScript string whose characters are
 * U+0000..U+00FF, one for each byte ("latin1"). Such strings are cheap, compare in byte order, work as map keys, and
 * survive names that are not UTF-8. They become text only for display and at the edges of formats defined as UTF-8.
 */

/** A string with one character for each byte, as produced by `Buffer.toString("latin1")`. */
export type ByteString = string;

/** The bytes of UTF-8 text as a byte string. */
export function bytesOfText(text: string): ByteString {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) return Buffer.from(text, "utf8").toString("latin1");
  }
  return text;
}

/** A byte string as text: decoded as UTF-8, bytes that are not valid shown as U+FFFD. For display and JSON only. */
export function textOfBytes(bytes: ByteString): string {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes.charCodeAt(i) > 0x7f) return Buffer.from(bytes, "latin1").toString("utf8");
  }
  return bytes;
}

/** Order of byte strings by their bytes: negative, zero or positive. */
export function compareBytes(a: ByteString, b: ByteString): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
