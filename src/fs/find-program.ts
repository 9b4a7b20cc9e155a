/** Finds programs of the host. */
import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";

/** Where distributions put programs. A caller's PATH often lacks the folders for administrators. */
export const systemFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] as const;

/** The absolute path of a program in the directories of `searchPath`; undefined when there is none. */
export function findProgram(name: string, searchPath: readonly string[] = systemFolders): string | undefined {
  for (const directory of searchPath) {
    if (!directory.startsWith("/")) continue;
    const path = join(directory, name);
    if (isProgram(path)) return path;
  }
  return undefined;
}

/** True for a file that this process may run. */
export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
