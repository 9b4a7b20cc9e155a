/** Lamella's side of the walk benchmark: one walk for each line of input, `threads path`; `0` is the walk in order. */
import { createInterface } from "node:readline";
import { walkSync, walkTree } from "../../src/fs/walk.ts";
import * as C from "../../src/sys/constants.ts";
import { open } from "../../src/sys/syscalls.ts";

for await (const line of createInterface({ input: process.stdin })) {
  const cut = line.indexOf(" ");
  const threads = Number(line.slice(0, cut));
  const path = line.slice(cut + 1);
  if (threads > 0) {
    const totals = await walkTree(path, { threads });
    console.log(totals.entries, totals.sizeBytes);
    continue;
  }
  let entries = 0;
  let size = 0;
  using root = open(path, C.O_RDONLY | C.O_DIRECTORY);
  walkSync(root.fd, ({ stat }) => {
    entries++;
    if ((stat.mode & C.S_IFMT) === C.S_IFREG) size += stat.size;
  });
  console.log(entries, size);
}
