/**
 * The answer to INIT: the version and the features of a session. What the kernel does not offer is left out. Not taken, on
 * purpose: WRITEBACK_CACHE (the kernel then makes up sizes and times, and passthrough is silently off), POSIX_LOCKS and
 * FLOCK_LOCKS (without them the kernel keeps locks on the mount's own inodes, which is right while nobody else has the
 * files), EXPORT_SUPPORT (file handles would have to outlive `forget`), the SPLICE flags (Node.js reads and writes buffers).
 */
import { init, init2 } from "./protocol.ts";
import type { Reply } from "./reply.ts";
import type { Request } from "./request.ts";

const EPROTO = 71;
const MAJOR = 7;
/** 7.31 is Linux 5.4, the first with every flag below that cannot be done without; 7.45 is Linux 6.18. */
const OLDEST_MINOR = 31;
const NEWEST_MINOR = 45;
/** Of data in one READ or WRITE: the most the kernel allows, as each costs the same round trip. */
export const MAX_DATA = 1 << 20;
const PAGE = 4096;
/** Requests that may wait in the background, readahead among them, and from how many on the device counts as congested. */
const MAX_BACKGROUND = 64;
const CONGESTED = 48;

const wanted: readonly number[] = [
  // Several reads of one file at a time: readahead goes on while a read waits.
  init.ASYNC_READ,
  // Writes of more than a page.
  init.BIG_WRITES,
  // The umask comes with the request: a default ACL overrules it, which only the file system knows.
  init.DONT_MASK,
  // Names with their attributes, where whoever reads a directory also asks for these.
  init.DO_READDIRPLUS,
  init.READDIRPLUS_AUTO,
  init.ASYNC_DIO,
  // Lookups and readdir in one directory do not wait for each other.
  init.PARALLEL_DIROPS,
  // The kernel applies ACLs when it checks permissions, and keeps them in its cache.
  init.POSIX_ACL,
  // MAX_DATA in one request.
  init.MAX_PAGES,
  // A symbolic link is read once.
  init.CACHE_SYMLINKS,
  // Cached data is dropped when we say so, not whenever a time changed: all changes come through the mount.
  init.EXPLICIT_INVAL_DATA,
  // Otherwise each write asks for `security.capability` first.
  init.HANDLE_KILLPRIV_V2,
  // Says when an ACL has to clear the set-group-id bit, which goes with HANDLE_KILLPRIV_V2.
  init.SETXATTR_EXT,
  // Makes the second word of flags count.
  init.INIT_EXT,
];

/** How deep file systems are stacked when files are passed through: on a plain one alone, so that overlay fits on top. */
const STACK_DEPTH = 1;

export interface Negotiated {
  /** Of the reply's body, or a negative errno. */
  readonly length: number;
  /** False after an answer that asks the kernel for another INIT. */
  readonly begun: boolean;
  readonly passthrough: boolean;
}

/** Answers INIT. `passthrough`: it may be used where the kernel has it. */
export function negotiate(request: Request, reply: Reply, options: { readonly passthrough: boolean }): Negotiated {
  const major = request.u32(0);
  const minor = request.u32(4);
  reply.clear(0, 64);
  reply.u32(0, MAJOR);
  reply.u32(4, Math.min(minor, NEWEST_MINOR));
  if (major > MAJOR) return { length: 64, begun: false, passthrough: false };
  if (major < MAJOR || minor < OLDEST_MINOR) return { length: -EPROTO, begun: false, passthrough: false };
  const offered = request.u32(12);
  const offered2 = (offered & init.INIT_EXT) === 0 ? 0 : request.u32(16);
  const passthrough = options.passthrough && (offered2 & init2.PASSTHROUGH) !== 0;
  // open(O_TRUNC) is one request; two would copy a file up only to empty it. Who opens is then not seen to lose set-id bits
  // by kernels that do not ask for that (before 5.11).
  const truncates = (offered & init.HANDLE_KILLPRIV_V2) === 0 ? 0 : init.ATOMIC_O_TRUNC;
  const flags = wanted.reduce((all, flag) => all | (offered & flag), offered & truncates);
  // The kernel takes the smaller one of this and of what the mount is set to (./mount.ts).
  reply.u32(8, MAX_DATA);
  reply.u32(12, flags >>> 0);
  reply.u32(16, MAX_BACKGROUND | (CONGESTED << 16));
  reply.u32(20, MAX_DATA);
  reply.u32(24, 1); // Times in nanoseconds.
  reply.u32(28, MAX_DATA / PAGE);
  // Without it the kernel gives out file handles that it cannot open again once it has forgotten the node.
  reply.u32(32, (passthrough ? init2.PASSTHROUGH : 0) | (offered2 & init2.NO_EXPORT_SUPPORT));
  reply.u32(36, passthrough ? STACK_DEPTH : 0);
  return { length: 64, begun: true, passthrough };
}
