/**
 * A server of the FUSE protocol for a file system of your own: implement {@link FileSystem}, mount, and serve.
 *
 * @example See examples/clock-fs.mjs.
 *
 * @module
 */
export type * from "./file-system.ts";
export { type FuseMount, mountFuse, unmountFuse } from "./mount.ts";
export { FOPEN_KEEP_CACHE, ROOT_NODE } from "./protocol.ts";
export { type SessionOptions, serve } from "./session.ts";
