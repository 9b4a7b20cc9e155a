/** The jobs of the threads that carry out build steps. Plain data. */

import type { CopyJob, CopyReport, DigestJob, DirectoryJob } from "./copy/copy-job.ts";
import type {
  ContainerExit,
  ContainerNetwork,
  ContainerOutput,
  ContainerSpec,
  RuntimeEngine,
} from "./runtime/container-spec.ts";
import type { HostTools } from "./runtime/pid-namespace.ts";

/** How a thread is set up, at its first job; all jobs of a pool bring the same. */
export interface ThreadSetup {
  readonly scratch: string;
  readonly network: ContainerNetwork;
  readonly engine: RuntimeEngine;
  readonly tools: HostTools;
}

export type StepWork =
  | { readonly kind: "warm" }
  | { readonly kind: "run"; readonly spec: ContainerSpec }
  | CopyJob
  | DigestJob
  | DirectoryJob;

export interface StepJob {
  readonly setup: ThreadSetup;
  readonly work: StepWork;
}

export type StepResult =
  | { readonly kind: "warm" }
  | { readonly kind: "run"; readonly exit: ContainerExit }
  | { readonly kind: "copy"; readonly report: CopyReport }
  | { readonly kind: "digest"; readonly digest: string }
  | { readonly kind: "directory"; readonly unchanged: boolean | undefined };

export type StepEvent = ContainerOutput;
