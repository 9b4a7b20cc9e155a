/** Every kind of step by its name. */
import { loadImages, saveImages } from "./archive-images.ts";
import { copyData } from "./copy-data.ts";
import { startEngineKind, stopEngineKind, verifyEngine } from "./engines.ts";
import { changeMode, command, makeDirectory, mount, setParameters, unmount } from "./host.ts";
import { moveImages } from "./move-images.ts";
import { newDriver } from "./new-driver.ts";
import { rewriteLayers } from "./rewrite-layers.ts";
import { setAside } from "./set-aside.ts";
import type { Step, StepKind } from "./step.ts";
import { writeFile } from "./write-file.ts";

type Kinds = { readonly [K in Step["kind"]]: StepKind<Extract<Step, { kind: K }>> };

const kinds = {
  "write-file": writeFile,
  "set-parameters": setParameters,
  "stop-engine": stopEngineKind,
  "start-engine": startEngineKind,
  "verify-engine": verifyEngine,
  command,
  "make-directory": makeDirectory,
  mount,
  unmount,
  "set-aside": setAside,
  "copy-data": copyData,
  "move-images": moveImages,
  "new-driver": newDriver,
  "save-images": saveImages as Kinds["save-images"],
  "load-images": loadImages as Kinds["load-images"],
  "rewrite-layers": rewriteLayers,
  "change-mode": changeMode,
} as const satisfies Kinds;

/** How a step is done. The cast: a step and its kind's entry belong together by the name. */
export function kindOf<S extends Step>(step: S): StepKind<S> {
  return kinds[step.kind] as unknown as StepKind<S>;
}
