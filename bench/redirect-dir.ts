/** The kernel's own default for overlay's redirect_dir, changed for a while. */
import { readFileSync, writeFileSync } from "node:fs";
import { Unavailable } from "./row.ts";

const parameter = "/sys/module/overlay/parameters/redirect_dir";

/** The parameter, in our hands. */
export interface RedirectDir extends Disposable {
  set(value: "Y" | "N"): void;
}

/** Sets the parameter to Y; disposing puts back what was there, and so does the end of the process. */
export function redirectDirOn(): RedirectDir {
  let before: string;
  try {
    before = readFileSync(parameter, "latin1").trim();
    writeFileSync(parameter, "Y");
  } catch (error) {
    throw new Unavailable(`${parameter} cannot be set: ${(error as Error).message}`);
  }
  const restore = (): void => writeFileSync(parameter, before);
  process.on("exit", restore);
  return {
    set: (value) => writeFileSync(parameter, value),
    [Symbol.dispose]() {
      process.off("exit", restore);
      restore();
    },
  };
}
