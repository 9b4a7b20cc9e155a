/**
 * Standard output and error, written with plain synchronous calls. Node's own streams would switch a pipe to non-blocking,
 * for every process that shares it: a container's program that inherits our standard output would then lose data.
 */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { ExitRequest } from "./exit-request.ts";

/** What a shell shows for a program that died of SIGPIPE: the reader went away, there is nobody left to tell. */
const brokenPipeStatus = 128 + 13;

export interface Output {
  readonly isTTY: boolean;
  readonly columns: number;
  readonly rows: number;
  /** Writes all of it. Throws ExitRequest when the reader has gone. */
  write(data: string | Uint8Array): void;
}

function outputOn(fd: 1 | 2): Output {
  return {
    get isTTY() {
      return isatty(fd);
    },
    get columns() {
      return (isatty(fd) && (fd === 1 ? process.stdout : process.stderr).columns) || 80;
    },
    get rows() {
      return (isatty(fd) && (fd === 1 ? process.stdout : process.stderr).rows) || 24;
    },
    write: (data) => writeAll(fd, typeof data === "string" ? Buffer.from(data) : data),
  };
}

export const stdout: Output = outputOn(1);
export const stderr: Output = outputOn(2);

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") throw new ExitRequest(brokenPipeStatus);
      if (code !== "EAGAIN") throw error;
      // Whoever started us made the pipe non-blocking, and it is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
