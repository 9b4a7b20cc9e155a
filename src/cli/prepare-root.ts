/** The directory of the store, made and checked before anything is opened in it, so that what is wrong with it is said here. */
import { accessSync, constants } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { makeDirectories } from "../fs/make-directories.ts";

/** Makes `root` and what is missing above it. Errors: permission_denied, failed_precondition. */
export function prepareRoot(root: string): void {
  try {
    makeDirectories(root, 0o711);
    accessSync(root, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (hasCode(error, "EACCES", "EPERM")) {
      throw new LamellaError("permission_denied", code, `${root}: this user may not write there`, {
        hint: "name a store of your own with --root or LAMELLA_ROOT, or run lamella as root",
        cause: error,
      });
    }
    throw new LamellaError("failed_precondition", code || "ROOT", `${root} cannot hold a store: ${message}`, {
      hint: "name another directory with --root or LAMELLA_ROOT",
      cause: error,
    });
  }
}
