/** WORKDIR: makes its directory in the layer, inside the root whatever links stand in the way (CVE-2024-21626). */
import { O_DIRECTORY, O_PATH } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { isUntouched, mountRoot } from "../root-mount.ts";
import { makeDirectories } from "../rooted-path.ts";
import type { ThreadNamespaces } from "../runtime/thread-namespaces.ts";
import type { DirectoryJob } from "./copy-job.ts";

/** Answers whether the layer is still empty, where that can be told. Errors: ENOTDIR when a file is in the way. */
export function makeWorkdir(job: DirectoryJob, namespaces: ThreadNamespaces): boolean | undefined {
  namespaces.stepSync(() => {
    const path = namespaces.directory("root");
    using _mount = mountRoot(job.view, path, { volatile: true });
    using root = sys.open(path, O_PATH | O_DIRECTORY);
    using _directory = makeDirectories(root.fd, job.path, { mode: 0o755, uid: 0, gid: 0 });
  });
  return isUntouched(job.view);
}
