/** Worker thread that flushes a file system: syncfs may take seconds, and the main thread has other work. */

import type { ByteString } from "../lib/bytes.ts";
import { O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { serveJobs } from "./worker-pool.ts";

serveJobs<ByteString, void>((path) => {
  using directory = sys.open(path, O_RDONLY | O_DIRECTORY);
  sys.syncfs(directory.fd);
});
