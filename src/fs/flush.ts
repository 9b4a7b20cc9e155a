/** Makes all data of a file system durable, off the main thread. */
import type { ByteString } from "../lib/bytes.ts";
import { WorkerPool, workerUrl } from "./worker-pool.ts";

const pool = new WorkerPool<ByteString, void>(workerUrl(import.meta.url, "./flush-worker"), 1);

/** Starts the thread ahead of need. */
export function warmFlush(): void {
  pool.warm(1);
}

/** syncfs(2) of the file system that holds the directory `path`. */
export async function flushFileSystem(path: ByteString): Promise<void> {
  await pool.run(path);
}
