/** Errors of system calls: LamellaErrors whose code is the errno's name and that name the call and the path. */
import { constants } from "node:os";
import { type ErrorKind, LamellaError, type LamellaErrorOptions } from "./lamella-error.ts";

/** Names of the errno values of this platform: `errnoNames.get(2) === "ENOENT"`. */
export const errnoNames: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => name !== "EWOULDBLOCK" && name !== "EOPNOTSUPP")
    .map(([name, value]) => [value, name]),
);

const kindOfErrno: Readonly<Record<string, ErrorKind>> = {
  ENOENT: "not_found",
  ENODATA: "not_found",
  EEXIST: "already_exists",
  EINVAL: "invalid_argument",
  ENAMETOOLONG: "invalid_argument",
  ELOOP: "invalid_argument",
  ENOTDIR: "failed_precondition",
  EISDIR: "failed_precondition",
  ENOTEMPTY: "failed_precondition",
  EBUSY: "failed_precondition",
  EXDEV: "failed_precondition",
  EROFS: "failed_precondition",
  EPERM: "permission_denied",
  EACCES: "permission_denied",
  ENOSPC: "resource_exhausted",
  EDQUOT: "resource_exhausted",
  EMFILE: "resource_exhausted",
  ENFILE: "resource_exhausted",
  ENOMEM: "resource_exhausted",
  EAGAIN: "unavailable",
  ENOSYS: "unimplemented",
  ENOTSUP: "unimplemented",
  EIO: "data_loss",
};

const hintOfErrno: Readonly<Record<string, string>> = {
  ENOSPC: "free space (or inodes) on that file system, or run `lamella gc`",
  EDQUOT: "raise the quota of that file system or remove data",
  EMFILE: "raise the limit of open files (`ulimit -n`)",
};

/** A system call failed. `errno` is positive; `path` is shown as far as it is text. */
export class SyscallError extends LamellaError {
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;

  constructor(syscall: string, errno: number, path?: string, options: LamellaErrorOptions = {}) {
    const name = errnoNames.get(errno) ?? `E${errno}`;
    super(kindOfErrno[name] ?? "internal", name, `${syscall}${path === undefined ? "" : ` ${path}`}: ${name}`, {
      hint: options.hint ?? hintOfErrno[name],
      cause: options.cause,
    });
    this.name = "SyscallError";
    this.errno = errno;
    this.syscall = syscall;
    this.path = path;
  }
}

/** True when `error` carries one of the errno names in `codes`, whoever threw it (ours or Node's). */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
