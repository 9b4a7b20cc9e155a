/** Builds in a store of the test's own, on a base image of busybox. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BuildEvent } from "../../src/build/build-events.ts";
import { type BuildOptions, type BuildResult, build } from "../../src/build/builder.ts";
import { StepThreads } from "../../src/build/step-threads.ts";
import type { ImageConfig } from "../../src/oci/config.ts";
import { Store } from "../../src/store/store.ts";
import { makeBusyboxRoot, temporaryDirectory } from "./busybox-root.ts";
import { type FlatTree, flatten } from "./flat-tree.ts";

export interface LabBuild {
  readonly result: BuildResult;
  readonly config: ImageConfig;
  /** What the steps printed. */
  readonly output: string;
  /** `outcome text` of each step, in the order they ended. */
  readonly steps: readonly string[];
}

export class BuildLab implements AsyncDisposable {
  readonly directory: string;
  readonly context: string;
  readonly store: Store;
  readonly threads: StepThreads;
  readonly #directory: Disposable;
  /** Of the last build, also of one that failed. */
  events: BuildEvent[] = [];

  private constructor(directory: Disposable & { readonly path: string }, store: Store, engine: "builtin" | undefined) {
    this.#directory = directory;
    this.directory = directory.path;
    this.context = join(directory.path, "context");
    this.store = store;
    const searchPath = (process.env.PATH ?? "").split(":").concat("/usr/sbin", "/sbin");
    this.threads = new StepThreads({ scratch: join(store.root, "tmp"), searchPath, engine });
    mkdirSync(this.context);
  }

  static async open(options: { readonly driver?: string; readonly engine?: "builtin" } = {}): Promise<BuildLab> {
    const directory = temporaryDirectory("lamella-build-");
    makeBusyboxRoot(join(directory.path, "base"));
    const store = await Store.open({ root: join(directory.path, "store"), driver: options.driver ?? "overlay2" });
    await store.importRoot({ kind: "directory", path: join(directory.path, "base") }, { tags: ["base"] });
    return new BuildLab(directory, store, options.engine);
  }

  /** Writes files of the context. */
  files(files: Readonly<Record<string, string>>): void {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(this.context, name)), { recursive: true });
      writeFileSync(join(this.context, name), content);
    }
  }

  async build(dockerfile: string, options: Partial<BuildOptions> = {}): Promise<LabBuild> {
    this.events = [];
    const result = await build({
      store: this.store,
      threads: this.threads,
      context: this.context,
      dockerfile,
      network: "none",
      ...options,
      onEvent: (event) => {
        this.events.push(event);
        options.onEvent?.(event);
      },
    });
    const { config } = await this.store.config(result.image.id);
    return { result, config, output: this.output, steps: this.steps };
  }

  get output(): string {
    return this.events
      .map((event) => (event.kind === "step-output" ? Buffer.from(event.chunk).toString() : ""))
      .join("");
  }

  get steps(): string[] {
    return this.events.flatMap((event) => (event.kind === "step-done" ? `${event.outcome} ${event.step.text}` : []));
  }

  /** The tree of an image, from its layers' tars. */
  async tree(image: BuildResult): Promise<FlatTree> {
    const layers: Buffer[] = [];
    for (const { chainId } of this.store.layersOf(image.image.chainId)) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of this.store.readLayer(chainId)) chunks.push(chunk);
      layers.push(Buffer.concat(chunks));
    }
    return flatten(layers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.threads[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }
}
