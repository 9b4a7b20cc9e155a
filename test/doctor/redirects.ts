/** The host's default for overlayfs' redirects, for as long as a test needs it. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const parameter = "/sys/module/overlay/parameters/redirect_dir";

/** Why it cannot be set here; undefined when it can. */
export function redirectsFixed(): string | undefined {
  if (!existsSync(parameter)) return "overlayfs has no parameter redirect_dir here";
  try {
    writeFileSync(parameter, readFileSync(parameter));
    return undefined;
  } catch {
    return "the parameters of overlayfs need root";
  }
}

/** Sets redirect_dir for as long as `use` runs; it is put back in any case, also when the process ends. */
export async function withRedirects<T>(value: "Y" | "N", use: () => Promise<T>): Promise<T> {
  const before = readFileSync(parameter, "latin1").trim();
  const putBack = (): void => writeFileSync(parameter, before);
  process.once("exit", putBack);
  try {
    writeFileSync(parameter, value);
    return await use();
  } finally {
    putBack();
    process.removeListener("exit", putBack);
  }
}
