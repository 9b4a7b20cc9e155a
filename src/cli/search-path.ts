/** Where programs of the host are looked for. */

/** The directories of PATH, and those of the system that a user's PATH may lack. */
export function searchPath(): string[] {
  const system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  const own = (process.env.PATH ?? "").split(":").filter((directory) => directory.startsWith("/"));
  return [...new Set([...own, ...system])];
}
