/**
 * Layers that hold what only overlayfs with its options on understands: directories with a redirect, files that are metadata
 * alone (Documentation/filesystems/overlayfs.rst, "redirect_dir" and "Metadata only copy up").
 */
import { existsSync, readdirSync } from "node:fs";
import { walkSync } from "../../fs/walk.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY, S_IFDIR, S_IFMT, S_IFREG } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

export interface MarkedLayer {
  /** The directory's name in the driver's. */
  readonly id: string;
  readonly redirects: number;
  readonly metacopies: number;
}

/** `home`: a directory with a directory for each layer, whose files lie in `content`. */
export function findMarkedLayers(home: string, content: string): MarkedLayer[] {
  const found: MarkedLayer[] = [];
  if (!existsSync(home)) return found;
  for (const id of readdirSync(home)) {
    const path = `${home}/${id}/${content}`;
    if (!existsSync(path)) continue;
    const counts = countMarks(path);
    if (counts.redirects + counts.metacopies > 0) found.push({ id, ...counts });
  }
  return found;
}

function countMarks(path: string): { redirects: number; metacopies: number } {
  using root = sys.open(bytesOfText(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  let redirects = 0;
  let metacopies = 0;
  walkSync(root.fd, ({ dirFd, name, stat }) => {
    const type = stat.mode & S_IFMT;
    if (type === S_IFDIR && sys.lgetxattrat(dirFd, name, "trusted.overlay.redirect") !== undefined) redirects++;
    if (type === S_IFREG && sys.lgetxattrat(dirFd, name, "trusted.overlay.metacopy") !== undefined) metacopies++;
  });
  return { redirects, metacopies };
}
