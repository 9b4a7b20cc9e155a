/** Image configs in the form two builders are compared in: what says nothing, or says when and where, is left out. */
import type { ArchivedImage } from "../support/image-archive.ts";

type Json = { readonly [key: string]: unknown };

/** Of the run config: what describes the container that a step ran in, and the parent image's ID. */
const ofTheStep = [
  "Hostname",
  "Domainname",
  "AttachStdin",
  "AttachStdout",
  "AttachStderr",
  "Tty",
  "OpenStdin",
  "StdinOnce",
].concat("Image");

export interface ComparableConfig {
  readonly architecture: unknown;
  readonly os: unknown;
  readonly variant: unknown;
  readonly author: unknown;
  readonly config: Json;
  readonly history: readonly Json[];
  readonly layers: number;
}

export function comparableConfig({ config, layers }: ArchivedImage): ComparableConfig {
  const run = Object.entries((config.config ?? {}) as Json).filter(([key]) => !ofTheStep.includes(key));
  const history = (config.history ?? []) as Json[];
  return {
    architecture: config.architecture,
    os: config.os,
    variant: config.variant,
    author: config.author,
    config: Object.fromEntries(run.filter(([, value]) => !saysNothing(value))),
    history: history.map(({ created: _created, ...entry }) => ({
      ...entry,
      // A checksum of what was copied, which each builder makes in its own way; Docker puts no space after --chown=….
      created_by: String(entry.created_by).replace(/(file|dir|multi):[0-9a-f]{64} in /, "$1:… in "),
    })),
    layers: layers.length,
  };
}

function saysNothing(value: unknown): boolean {
  if (value === null || value === undefined || value === "" || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}
