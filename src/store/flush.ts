/** Makes all data of a file system durable, off the main thread. */
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import { bytesOfText } from "../lib/bytes.ts";

const pool = new WorkerPool<string, void>(workerUrl(import.meta.url, "./flush-worker"), 1);

/** Starts the thread ahead of need. */
export function warmFlush(): void {
  pool.warm(1);
}

/** syncfs(2) of the file system that holds `path`. */
export async function flushFileSystem(path: string): Promise<void> {
  await pool.run(bytesOfText(path));
}
