/**
 * Named points in the work of the store, and of moving it, at which a test may kill the process, to prove that what a crash leaves is mended.
 * Without a hook a point costs one comparison. The names are the contract of test/fault: each stands between two effects on
 * disk that another process could see separately.
 */

export const failpoints = [
  "layer.held",
  "layer.created",
  "layer.unpacked",
  "layer.sealed",
  "layer.exported",
  "blob.temporary",
  "blob.written",
  "publish.before-sync",
  "publish.after-sync",
  "publish.reparented",
  "publish.committed",
  "publish.dropped",
  "container.created",
  "container.recorded",
  "container.forgotten",
  "container.removed",
  "commit.tar-written",
  "import.tar-written",
  "load.spooled",
  "remove.forgotten",
  "remove.layer-removed",
  "remove.record-removed",
  "remove.blob-removed",
  "gc.forgotten",
  "gc.swept",
  "reclaim.layer-removed",
  "reclaim.swept",
  "migrate.begun",
  "migrate.moved",
  "migrate.docker-noted",
  "migrate.docker-tree-made",
  "migrate.docker-filled",
  "migrate.docker-placed",
  "migrate.docker-images",
] as const;

export type Failpoint = (typeof failpoints)[number];

let hook: ((name: Failpoint) => void) | undefined;

/** Calls `next` at every failpoint from now on; undefined ends that. For tests. */
export function setFailpointHook(next: ((name: Failpoint) => void) | undefined): void {
  hook = next;
}

/** Marks a point at which a crash is tested. */
export function failpoint(name: Failpoint): void {
  hook?.(name);
}
