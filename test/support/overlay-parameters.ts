/**
 * The host's defaults for overlayfs. There is one set of them for all test files that run at the same time, so each file that
 * changes them, or that needs them to stay as they are, takes a lock and keeps it until its process ends.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LockMode, lockFile } from "../../src/fs/locks.ts";

export type OverlayParameter = "redirect_dir" | "metacopy";

const pathOf = (name: OverlayParameter): string => `/sys/module/overlay/parameters/${name}`;

let held: LockMode | undefined;

function hold(mode: LockMode): void {
  if (held === undefined) lockFile(join(tmpdir(), `lamella-test-overlay-parameters-${process.getuid?.()}`), mode);
  else if (held === "shared" && mode === "exclusive") throw new Error("the parameters are held shared by this file");
  held ??= mode;
}

/** From now on no other test changes them. Waits for those that have. */
export function keepParameters(): void {
  hold("shared");
}

/** From now on this process alone changes them, and none counts on them. Waits for those that do. */
export function ownParameters(): void {
  hold("exclusive");
}

/** What a parameter is now: `Y` or `N`. */
export function parameterNow(name: OverlayParameter): string {
  return readFileSync(pathOf(name), "latin1").trim();
}

/** Why they cannot be set here; undefined when they can. */
export function parametersFixed(): string | undefined {
  if (!existsSync(pathOf("redirect_dir"))) return "overlayfs has no parameter redirect_dir here";
  try {
    writeFileSync(pathOf("redirect_dir"), readFileSync(pathOf("redirect_dir")));
    return undefined;
  } catch {
    return "the parameters of overlayfs need root";
  }
}

/** Sets one until disposed, at the latest when the process ends. */
export function withParameter(name: OverlayParameter, value: "Y" | "N"): Disposable {
  ownParameters();
  const before = parameterNow(name);
  const putBack = (): void => writeFileSync(pathOf(name), before);
  process.once("exit", putBack);
  writeFileSync(pathOf(name), value);
  return {
    [Symbol.dispose]: () => {
      putBack();
      process.removeListener("exit", putBack);
    },
  };
}
