/**
 * The numbers of the FUSE protocol, version 7.31 to 7.45 (include/uapi/linux/fuse.h). All fields are little-endian as on
 * every machine that Node.js runs on; offsets are those of the structures:
 *
 *     request   in_header 40:  u32 len, opcode; u64 unique, nodeid; u32 uid, gid, pid; u16 extensions, padding
 *               then the opcode's structure, then names (each with a NUL) or data
 *     reply     out_header 16: u32 len; i32 -errno; u64 unique
 *               then the opcode's structure, or data
 */

/** Of a request's and a reply's header, in bytes. */
export const IN_HEADER = 40;
export const OUT_HEADER = 16;

/** The node ID of the root. */
export const ROOT_NODE = 1;

// biome-ignore format: a table
export const op = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9, UNLINK: 10, RMDIR: 11,
  RENAME: 12, LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17, RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22,
  LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25, INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30,
  CREATE: 35, INTERRUPT: 36, DESTROY: 38, BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
  COPY_FILE_RANGE: 47, SYNCFS: 50, TMPFILE: 51, STATX: 52, COPY_FILE_RANGE_64: 53,
} as const;

/** Bits of the first flag word of INIT. */
export const init = {
  ASYNC_READ: 2 ** 0,
  ATOMIC_O_TRUNC: 2 ** 3,
  BIG_WRITES: 2 ** 5,
  DONT_MASK: 2 ** 6,
  DO_READDIRPLUS: 2 ** 13,
  READDIRPLUS_AUTO: 2 ** 14,
  ASYNC_DIO: 2 ** 15,
  PARALLEL_DIROPS: 2 ** 18,
  POSIX_ACL: 2 ** 20,
  MAX_PAGES: 2 ** 22,
  CACHE_SYMLINKS: 2 ** 23,
  EXPLICIT_INVAL_DATA: 2 ** 25,
  HANDLE_KILLPRIV_V2: 2 ** 28,
  SETXATTR_EXT: 2 ** 29,
  INIT_EXT: 2 ** 30,
} as const;

/** Bits of the second flag word of INIT, which counts only together with INIT_EXT. */
export const init2 = { PASSTHROUGH: 2 ** 5, NO_EXPORT_SUPPORT: 2 ** 6 } as const;

/** What is to be changed by SETATTR. */
export const FATTR_MODE = 1;
export const FATTR_UID = 2;
export const FATTR_GID = 4;
export const FATTR_SIZE = 8;
export const FATTR_ATIME = 16;
export const FATTR_MTIME = 32;
export const FATTR_FH = 64;
export const FATTR_ATIME_NOW = 128;
export const FATTR_MTIME_NOW = 256;
export const FATTR_KILL_SUIDGID = 2048;

export const FUSE_GETATTR_FH = 1;
export const FUSE_FSYNC_FDATASYNC = 1;
export const FUSE_WRITE_KILL_SUIDGID = 4;
export const FUSE_OPEN_KILL_SUIDGID = 1;
export const FUSE_SETXATTR_ACL_KILL_SGID = 1;

/** Open flags that a file system answers. */
export const FOPEN_KEEP_CACHE = 2;
export const FOPEN_NOFLUSH = 32;
export const FOPEN_PASSTHROUGH = 128;

/** In the place of an errno, in a message that answers nothing: attributes of a node, or its data, are not to be kept. */
export const FUSE_NOTIFY_INVAL_INODE = 2;
/** As that: data to be kept. */
export const FUSE_NOTIFY_STORE = 4;

/** ioctls on /dev/fuse. */
export const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
export const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;
