/**
 * The store's observable events, for progress bars, logs and traces (node:diagnostics_channel). Nothing is built when
 * nobody listens.
 */
import { type Channel, channel } from "node:diagnostics_channel";
import type { ChainId, DiffId, Digest } from "../oci/digest.ts";

/** `lamella:store:layer`: a layer's digest is known, or an existing layer was used in place of unpacking one. */
export interface LayerEvent {
  readonly event: "unpacked" | "exported" | "exists";
  readonly diffId: DiffId;
  readonly chainId: ChainId;
  readonly tarSizeBytes: number;
  readonly durationMs: number;
}

/** `lamella:store:publish`: layers and an image became visible. */
export interface PublishEvent {
  readonly image: Digest | undefined;
  readonly layers: readonly ChainId[];
  /** Layers that somebody else had published before. */
  readonly dropped: readonly ChainId[];
  readonly flushMs: number;
}

/** `lamella:store:remove`: a layer was deleted. */
export interface RemoveEvent {
  readonly chainId: ChainId | undefined;
  readonly layerId: string;
}

/** `lamella:store:reclaim`: a start found leftovers of a crash. */
export interface ReclaimEvent {
  readonly layers: number;
  readonly other: number;
}

/** `lamella:store:mend`: a power cut had taken a part of a container's layer, which has it again. */
export interface MendEvent {
  readonly layerId: string;
}

export const channels = {
  layer: channel("lamella:store:layer"),
  publish: channel("lamella:store:publish"),
  remove: channel("lamella:store:remove"),
  reclaim: channel("lamella:store:reclaim"),
  mend: channel("lamella:store:mend"),
} as const;

interface Events {
  readonly layer: LayerEvent;
  readonly publish: PublishEvent;
  readonly remove: RemoveEvent;
  readonly reclaim: ReclaimEvent;
  readonly mend: MendEvent;
}

/** Sends an event to whoever listens. */
export function emit<K extends keyof Events>(name: K, event: Events[K]): void {
  const target: Channel = channels[name];
  if (target.hasSubscribers) target.publish(event);
}
