/** What the stages of one build share. */

import type { Stage } from "../dockerfile/index.ts";
import type { LayerView, Use } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import type { HistoryEntry, ImageConfig, RunConfig } from "../oci/config.ts";
import type { ChainId } from "../oci/digest.ts";
import type { Platform } from "../oci/platform.ts";
import type { StagedLayer } from "../store/requests.ts";
import type { Store } from "../store/store.ts";
import type { ImageRecord, LayerRecord } from "../store/types.ts";
import type { StageArgs } from "./build-args.ts";
import type { BuildEvent, BuildStep } from "./build-events.ts";
import type { ContainerNetwork } from "./runtime/container-spec.ts";
import type { StageConfig } from "./stage-config.ts";
import type { StepThreads } from "./step-threads.ts";

/** A step's result as the cache will know it, once the build is published. */
export interface CacheRow {
  readonly key: string;
  /** The top of the stage after the step. */
  readonly top: StageLayer | undefined;
  readonly createdAt: string;
}

/** A layer of a stage: published before, or made now. */
export type StageLayer =
  | { readonly kind: "published"; readonly record: LayerRecord }
  | { readonly kind: "staged"; readonly staged: StagedLayer };

/** What a finished stage is. */
export interface StageResult {
  readonly top: StageLayer | undefined;
  /** The layers of the base image, then those of the stage, lowest first. */
  readonly layers: readonly StageLayer[];
  readonly config: RunConfig;
  readonly author: string | undefined;
  readonly history: readonly HistoryEntry[];
  /** The base's config, for what builds do not change (architecture, os). */
  readonly base: ImageConfig | undefined;
  readonly platform: Platform;
  readonly key: string;
  readonly createdAt: string;
}

export interface BuildSession {
  readonly store: Store;
  readonly threads: StepThreads;
  readonly fileName: string;
  readonly escape: "\\" | "`";
  readonly stages: readonly Stage[];
  readonly context: string | undefined;
  readonly ignore: string;
  readonly ignoreName: string;
  readonly network: ContainerNetwork;
  readonly noCache: boolean;
  readonly sourceDateEpoch: number | undefined;
  readonly secrets: ReadonlyMap<string, Uint8Array>;
  /** Aborts with the caller's signal, and when any stage fails. */
  readonly signal: AbortSignal;
  emit(event: BuildEvent): void;
  nextStepId(): number;
  /** The stage of that index, carried out now if it was not. */
  stage(index: number): Promise<StageResult>;
  /** An image of the store, kept from removal until the build ends. Errors: not_found with the nearest names. */
  image(name: string): Promise<BaseImage>;
  /** Keeps a published chain from removal until the build ends. */
  hold(chainId: ChainId): void;
  /** Keeps what a driver gave until the build ends. */
  keep<T>(use: Use<T>): T;
  /** Notes what the step gave, for publishing. */
  addLayer(step: BuildStep, staged: StagedLayer): void;
  addCacheRow(row: CacheRow): void;
  /** Waits for `work` at the end of the build, whatever becomes of it. */
  inBackground(work: Promise<unknown>): void;
}

/** A stage as its steps see it. */
export interface StageContext {
  readonly session: BuildSession;
  readonly stage: Stage;
  readonly args: StageArgs;
  readonly state: StageConfig;
  readonly top: StageLayer | undefined;
  lookup(name: string): string | undefined;
}

/** What a step that may write a layer does. */
export interface LayerStep {
  /** What the step depends on beside all before it. */
  readonly payload: () => Promise<unknown>;
  /** Carries it out in a writable layer; answers whether that is still empty, undefined where it cannot tell. */
  readonly execute: (view: LayerView, step: BuildStep) => Promise<boolean | undefined>;
  /** The history's `created_by`; called after `payload` has settled. */
  readonly createdBy: () => string;
  readonly next: StageConfig;
}

export interface BaseImage {
  readonly record: ImageRecord;
  readonly config: ImageConfig;
  readonly layers: readonly LayerRecord[];
}

/** The chain ID of a stage's top, once it is known. */
export async function chainOf(layer: StageLayer | undefined): Promise<ChainId | undefined> {
  if (layer === undefined) return undefined;
  return layer.kind === "published" ? layer.record.chainId : (await layer.staged.done).chainId;
}

/** What `beginLayer` takes for it. */
export function parentOf(layer: StageLayer | undefined): LayerRecord | StagedLayer | undefined {
  if (layer === undefined) return undefined;
  return layer.kind === "published" ? layer.record : layer.staged;
}

/** A read-only view of a stage's or image's tree, good until the build ends. Errors: not_found when it has no layers. */
export async function treeView(session: BuildSession, layers: readonly StageLayer[], name: string): Promise<LayerView> {
  const top = layers.at(-1);
  if (top === undefined) throw new LamellaError("not_found", "NO_LAYERS", `${name} holds no files`);
  const { layerId } = top.kind === "published" ? top.record : top.staged;
  return session.keep(await session.store.driver.view(layerId, { readOnly: true }));
}
