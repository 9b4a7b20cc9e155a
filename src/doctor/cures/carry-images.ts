/** Steps that changing the driver in place and moving to a volume have in common. */
import type { DockerFacts } from "../facts.ts";
import type { EngineHandle } from "./engine.ts";
import type { ImagesToCarry } from "./images.ts";
import { cannot } from "./request.ts";
import type { ArchiveImagesStep, Step } from "./steps/step.ts";

/** The driver that Docker is to use. */
export const targetDriver = "overlay2";

/** What changing in place and moving to a volume have in common. */
export interface DriverChange {
  readonly docker: DockerFacts;
  readonly engine: EngineHandle | undefined;
  readonly images: ImagesToCarry;
  /** Names the new driver in daemon.json. */
  readonly settings: Step;
  readonly notes: readonly string[];
}

interface Carrying {
  readonly before: readonly Step[];
  readonly after: readonly Step[];
}

/** Images that only the engine can read: to an archive before it stops, from it when it runs again. */
export function carrying(
  images: ImagesToCarry,
  engine: EngineHandle | undefined,
  { save, load }: { readonly save: string; readonly load: string },
): Carrying {
  if (images.readable || images.names.length === 0) return { before: [], after: [] };
  if (engine === undefined)
    throw cannot(
      "NEEDS_DOCKER",
      "layers of this driver can be read by Docker alone, which does not run",
      "start Docker, and run this again",
    );
  const { socket } = engine;
  const step = (kind: ArchiveImagesStep["kind"], archive: string): ArchiveImagesStep => ({
    kind,
    socket,
    archive,
    names: images.names,
  });
  return { before: [step("save-images", save)], after: [step("load-images", load)] };
}

export function verification(engine: EngineHandle | undefined, images: ImagesToCarry): Step[] {
  if (engine === undefined) return [];
  const { socket } = engine;
  const status = [["Native Overlay Diff", "true"]] as const;
  return [{ kind: "verify-engine", socket, driver: targetDriver, status, images: images.ids }];
}
