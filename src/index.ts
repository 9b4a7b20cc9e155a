/** Lamella as a library: the engine, its options and results, and the error type. */

export type { BuildEvent, BuildStep, StepOutcome } from "./build/build-events.ts";
export type { BuildResult } from "./build/builder.ts";
export type { DriverReport } from "./drivers/open-driver.ts";
export { Engine } from "./engine/engine.ts";
export type { HostFacts, IdMapping } from "./engine/host.ts";
export type { ContainerInspection, GraphDriverData, HistoryItem, ImageInspection } from "./engine/inspection.ts";
export type { FileEntry, FileType } from "./engine/look-into.ts";
export type * from "./engine/options.ts";
export type { RunOptions, RunResult } from "./engine/run.ts";
export { type ErrorKind, errorKinds, isLamellaError, LamellaError } from "./errors/lamella-error.ts";
export { SyscallError } from "./errors/syscall-error.ts";
export type { LoadedImage } from "./store/load.ts";
export type { ImageListing } from "./store/store.ts";
export type {
  CheckFinding,
  CheckReport,
  ContainerRecord,
  DiskUsage,
  GcReport,
  ImageRecord,
  RemovedItem,
} from "./store/types.ts";
