/** The content digest of what a COPY or ADD copies: the part of its cache key that the files decide. */
import { createHash, type Hash } from "node:crypto";
import { O_NOFOLLOW, O_NONBLOCK, O_RDONLY, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { ThreadNamespaces } from "../runtime/thread-namespaces.ts";
import type { DigestJob } from "./copy-job.ts";
import { type SourceEntry, SourceTree } from "./source-tree.ts";

const buffer = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * Sha256 over names, types, modes, devices, link targets and contents of all sources, in hexadecimal after what they are,
 * as Docker's history says it: `file:`, `dir:`, or `multi:` for more than one.
 */
export function digestSources(job: DigestJob, namespaces: ThreadNamespaces, checkpoint: () => void): string {
  return namespaces.stepSync(() => {
    using tree = new SourceTree(job.sources, namespaces);
    const hash = createHash("sha256");
    const matches = tree.find();
    for (const match of matches) {
      hash.update(`source ${match.name.length} ${match.name}\n`, "latin1");
      for (const entry of tree.entries(match)) {
        checkpoint();
        addEntry(hash, entry);
      }
    }
    const [only, ...more] = matches;
    const isDirectory = only !== undefined && (only.stat.mode & S_IFMT) === S_IFDIR;
    return `${more.length > 0 ? "multi" : isDirectory ? "dir" : "file"}:${hash.digest("hex")}`;
  });
}

function addEntry(hash: Hash, entry: SourceEntry): void {
  const { stat, path } = entry;
  const type = stat.mode & S_IFMT;
  const size = type === S_IFREG ? stat.size : 0;
  hash.update(`${stat.mode} ${size} ${stat.rdevMajor}:${stat.rdevMinor} ${path.length} ${path}\n`, "latin1");
  if (type === S_IFLNK) hash.update(`${sys.readlinkat(entry.directory, entry.name)}\n`, "latin1");
  if (type !== S_IFREG) return;
  using file = new sys.OwnedFd(sys.openat(entry.directory, entry.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  for (;;) {
    const n = sys.read(file.fd, buffer);
    if (n === 0) return;
    hash.update(buffer.subarray(0, n));
  }
}
