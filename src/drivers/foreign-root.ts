/**
 * Roots that belong to another engine. Its layers lie where a driver of ours would keep its own, and the store deletes
 * layers that it knows nothing of: such a root must not be opened.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

/** The error about a root that is another engine's; undefined where it is not. */
export function foreignRootError(root: ByteString): LamellaError | undefined {
  const owner = ownerOf(root);
  if (owner === undefined) return undefined;
  const path = textOfBytes(root);
  const hint = owner === "Docker" ? `; \`lamella migrate --from-docker ${path}\` reads Docker's images into it` : "";
  return new LamellaError("failed_precondition", "FOREIGN_ROOT", `${path} holds ${owner}'s data`, {
    hint: `name a directory of its own with --root${hint}`,
  });
}

function ownerOf(root: ByteString): string | undefined {
  const has = (path: ByteString): boolean => sys.statIfExists(AT_FDCWD, `${root}/${path}`) !== undefined;
  if (namesOf(`${root}/image`).some((driver) => has(`image/${driver}/layerdb`))) return "Docker";
  if (has("storage.lock") || has("overlay-layers")) return "Podman";
  return has("io.containerd.metadata.v1.bolt") ? "containerd" : undefined;
}

function namesOf(path: ByteString): ByteString[] {
  const fd = raw.openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return [];
  using directory = new sys.OwnedFd(fd);
  return sys.readdir(directory.fd).map((entry) => entry.name);
}
