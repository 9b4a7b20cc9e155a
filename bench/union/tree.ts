/** Trees of many small files, the same each time. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Tree {
  readonly directories: number;
  readonly filesInEach: number;
}

/** Makes the tree at a new directory. Files hold up to 4 KiB. */
export function makeTree(at: string, { directories, filesInEach }: Tree): void {
  const content = Buffer.alloc(4096, "a line of text\n");
  mkdirSync(at);
  for (let d = 0; d < directories; d++) {
    mkdirSync(join(at, `d${d}`));
    for (let f = 0; f < filesInEach; f++)
      writeFileSync(join(at, `d${d}`, `file-${f}`), content.subarray(0, (f * 97) % 4096));
  }
}
