/** What of a data root is copied when it moves with another driver, and what is not. */
import { lstatSync, readdirSync } from "node:fs";
import { walkTree } from "../../fs/walk.ts";
import { bytesOfText } from "../../lib/bytes.ts";

/** Names directly below a data root: of the old driver, its images, BuildKit's cache of them, and what starts anew. */
export function dataLeftBehind(driver: string): string[] {
  return [driver, "image", "buildkit", "tmp", "lost+found"];
}

/** What the rest takes on disk, in bytes. */
export async function copiedBytes(root: string, driver: string): Promise<number> {
  const without = new Set(dataLeftBehind(driver));
  let bytes = 0;
  for (const name of readdirSync(root)) {
    if (without.has(name) || !lstatSync(`${root}/${name}`).isDirectory()) continue;
    bytes += (await walkTree(bytesOfText(`${root}/${name}`), { oneFileSystem: true })).allocatedBytes;
  }
  return bytes;
}
