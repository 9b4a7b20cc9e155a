/**
 * The thread side of ./step-threads.ts: takes its namespaces on at the first job and carries out one job after another.
 * What only copies need is loaded with the first of them: a build's first RUN waits for this thread to start.
 */
import { serveJobs } from "../fs/worker-pool.ts";
import { ContainerThread } from "./runtime/container-thread.ts";
import { ThreadNamespaces } from "./runtime/thread-namespaces.ts";
import type { StepEvent, StepJob, StepResult, ThreadSetup } from "./step-jobs.ts";

interface Entered {
  readonly namespaces: ThreadNamespaces;
  readonly containers: ContainerThread;
}

let entered: Entered | undefined;

function enter(setup: ThreadSetup): Entered {
  if (entered === undefined) {
    const namespaces = ThreadNamespaces.enter(setup);
    entered = { namespaces, containers: new ContainerThread(namespaces, setup.engine, setup.tools) };
  }
  return entered;
}

serveJobs<StepJob, StepResult, StepEvent>(async ({ setup, work }, context) => {
  const { namespaces, containers } = enter(setup);
  switch (work.kind) {
    case "warm":
      await containers.warm();
      return { kind: "warm" };
    case "run": {
      const exit = await containers.run(work.spec, {
        output: (output) => context.post(output),
        throwIfCanceled: () => context.throwIfCanceled(),
      });
      return { kind: "run", exit };
    }
    case "copy": {
      const { copyFiles } = await import("./copy/copy-files.ts");
      return { kind: "copy", report: await copyFiles(work, namespaces, () => context.throwIfCanceled()) };
    }
    case "digest": {
      const { digestSources } = await import("./copy/digest-sources.ts");
      return { kind: "digest", digest: digestSources(work, namespaces, () => context.throwIfCanceled()) };
    }
    case "directory": {
      const { makeWorkdir } = await import("./copy/make-workdir.ts");
      return { kind: "directory", unchanged: makeWorkdir(work, namespaces) };
    }
    default:
      return work satisfies never;
  }
});
