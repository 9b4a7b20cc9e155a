/** What a tree of hard links takes by itself: without the objects that another tree has too. */
import type { ByteString } from "../lib/bytes.ts";
import { DT_DIR, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { measureTree, type TreeUsage } from "./tree-usage.ts";

/** As `du -s OTHER PATH` says of PATH. Both lie on one file system. Synchronous. */
export function measureOwn(path: ByteString, other: ByteString, checkpoint: () => void = () => {}): TreeUsage {
  const shared = new Set<string>();
  const note = (fd: number): void => {
    checkpoint();
    for (const { name, type, inoHigh, inoLow } of sys.readdir(fd)) {
      if (type !== DT_DIR) shared.add(`${inoHigh}:${inoLow}`);
      else {
        using below = new sys.OwnedFd(sys.openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        note(below.fd);
      }
    }
  };
  using root = sys.open(other, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  note(root.fd);
  return measureTree(path, checkpoint, ({ inoHigh, inoLow }) => shared.has(`${inoHigh}:${inoLow}`));
}
