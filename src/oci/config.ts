/**
 * The image config: OCI's document (image-spec, config.md) with the members Docker adds. Names are the document's own.
 * Absent, null and, for lists that Docker writes as null, empty are told apart only as undefined and given.
 * {@link encodeConfig} writes what Docker writes: top-level keys sorted, the inner ones in the order of Docker's struct,
 * maps sorted; so one config has one digest.
 */
import { type DiffId, parseDiffId } from "./digest.ts";
import { defined, type Fields, fieldsOf, invalidDocument, type StringMap } from "./fields.ts";
import { type Encodable, encodeJson, type JsonObject, parseJson, sortedMap } from "./json.ts";
import type { Manifest } from "./manifest.ts";
import type { Platform } from "./platform.ts";

/** Durations are in nanoseconds; 0 or absent means inherited. */
export interface Healthcheck {
  /** `["NONE"]`, `["CMD", arg…]` or `["CMD-SHELL", command]`. */
  readonly Test?: readonly string[];
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly StartPeriod?: number;
  readonly StartInterval?: number;
  readonly Retries?: number;
}

/** How containers of the image are run. */
export interface RunConfig {
  readonly Hostname?: string;
  readonly Domainname?: string;
  readonly User?: string;
  readonly AttachStdin?: boolean;
  readonly AttachStdout?: boolean;
  readonly AttachStderr?: boolean;
  /** `80/tcp`; written as the keys of an object. */
  readonly ExposedPorts?: readonly string[];
  readonly Tty?: boolean;
  readonly OpenStdin?: boolean;
  readonly StdinOnce?: boolean;
  readonly Env?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Healthcheck?: Healthcheck;
  readonly ArgsEscaped?: boolean;
  readonly Image?: string;
  /** Paths; written as the keys of an object. */
  readonly Volumes?: readonly string[];
  readonly WorkingDir?: string;
  readonly Entrypoint?: readonly string[];
  readonly OnBuild?: readonly string[];
  readonly Labels?: StringMap;
  readonly StopSignal?: string;
  readonly StopTimeout?: number;
  readonly Shell?: readonly string[];
}

export interface HistoryEntry {
  /** RFC 3339. */
  readonly created?: string;
  readonly author?: string;
  readonly created_by?: string;
  readonly comment?: string;
  /** True when the step made no layer. */
  readonly empty_layer?: boolean;
}

export interface ImageConfig {
  readonly architecture: string;
  readonly author?: string;
  readonly comment?: string;
  readonly config?: RunConfig;
  /** Docker's build container; kept as found. */
  readonly container?: string;
  readonly container_config?: JsonObject;
  /** RFC 3339. */
  readonly created?: string;
  readonly docker_version?: string;
  readonly history?: readonly HistoryEntry[];
  readonly os: string;
  readonly "os.features"?: readonly string[];
  readonly "os.version"?: string;
  readonly rootfs: { readonly type: "layers"; readonly diff_ids: readonly DiffId[] };
  readonly variant?: string;
}

/** Reads a config; throws `invalid_argument` (INVALID_JSON, INVALID_DOCUMENT, INVALID_DIGEST). */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  const fields = fieldsOf(parseJson(bytes, { what: "image config" }), "image config");
  const run = fields.fields("config");
  return defined({
    architecture: fields.string("architecture") ?? "",
    author: fields.string("author"),
    comment: fields.string("comment"),
    config: run && runConfigOfFields(run),
    container: fields.string("container"),
    container_config: fields.jsonObject("container_config"),
    created: fields.parsed("created", timestamp),
    docker_version: fields.string("docker_version"),
    history: fields.list("history")?.map(historyOfFields),
    os: fields.string("os") ?? "",
    "os.features": fields.strings("os.features"),
    "os.version": fields.string("os.version"),
    rootfs: rootfsOfFields(fields.requiredFields("rootfs")),
    variant: fields.string("variant"),
  });
}

/** Reads the `config` member: how containers are run. */
export function runConfigOfFields(f: Fields): RunConfig {
  const health = f.fields("Healthcheck");
  return defined({
    Hostname: f.string("Hostname"),
    Domainname: f.string("Domainname"),
    User: f.string("User"),
    AttachStdin: f.boolean("AttachStdin"),
    AttachStdout: f.boolean("AttachStdout"),
    AttachStderr: f.boolean("AttachStderr"),
    ExposedPorts: f.keySet("ExposedPorts"),
    Tty: f.boolean("Tty"),
    OpenStdin: f.boolean("OpenStdin"),
    StdinOnce: f.boolean("StdinOnce"),
    Env: f.strings("Env"),
    Cmd: f.strings("Cmd"),
    Healthcheck: health && healthcheckOfFields(health),
    ArgsEscaped: f.boolean("ArgsEscaped"),
    Image: f.string("Image"),
    Volumes: f.keySet("Volumes"),
    WorkingDir: f.string("WorkingDir"),
    Entrypoint: f.strings("Entrypoint"),
    OnBuild: f.strings("OnBuild"),
    Labels: f.stringMap("Labels"),
    StopSignal: f.string("StopSignal"),
    StopTimeout: f.integer("StopTimeout"),
    Shell: f.strings("Shell"),
  });
}

/** RFC 3339 as Go writes it, and so every tool that reads a config and writes it again: without zeros at the end. */
export function configTime(date: Date): string {
  return date.toISOString().replace(/\.?0*Z$/, "Z");
}

/** The config's bytes, in Docker's order. */
export function encodeConfig(config: ImageConfig): Buffer {
  return encodeJson({
    architecture: config.architecture,
    author: config.author,
    comment: config.comment,
    config: config.config && orderedRunConfig(config.config),
    container: config.container,
    container_config: config.container_config,
    created: config.created,
    docker_version: config.docker_version,
    history: config.history?.map(({ created, author, created_by, comment, empty_layer }) => ({
      created,
      author,
      created_by,
      comment,
      empty_layer,
    })),
    os: config.os,
    "os.features": config["os.features"],
    "os.version": config["os.version"],
    rootfs: { type: config.rootfs.type, diff_ids: config.rootfs.diff_ids },
    variant: config.variant,
  });
}

/** The platform a config says it is for. */
export function platformOfConfig(config: ImageConfig): Platform {
  return defined({
    architecture: config.architecture,
    os: config.os,
    "os.version": config["os.version"],
    "os.features": config["os.features"],
    variant: config.variant,
  });
}

/**
 * Checks that a config has one diff ID for each layer, and at most as many layers in its history. `layers` is the
 * manifest's list or any other of the same length; throws `invalid_argument` (INVALID_DOCUMENT).
 */
export function checkLayersMatch(config: ImageConfig, layers: Manifest["layers"] | readonly unknown[]): void {
  const diffIds = config.rootfs.diff_ids.length;
  if (diffIds !== layers.length) {
    throw invalidDocument("image config.rootfs.diff_ids", `${diffIds} diff IDs for ${layers.length} layers`);
  }
  const made = config.history?.filter((entry) => entry.empty_layer !== true).length ?? 0;
  if (made > diffIds) throw invalidDocument("image config.history", `${made} steps made layers, there are ${diffIds}`);
}

function historyOfFields(f: Fields): HistoryEntry {
  return defined({
    created: f.parsed("created", timestamp),
    author: f.string("author"),
    created_by: f.string("created_by"),
    comment: f.string("comment"),
    empty_layer: f.boolean("empty_layer"),
  });
}

function healthcheckOfFields(f: Fields): Healthcheck {
  return defined({
    Test: f.strings("Test"),
    Interval: f.integer("Interval"),
    Timeout: f.integer("Timeout"),
    StartPeriod: f.integer("StartPeriod"),
    StartInterval: f.integer("StartInterval"),
    Retries: f.integer("Retries"),
  });
}

function rootfsOfFields(f: Fields): ImageConfig["rootfs"] {
  const type = f.requiredString("type");
  if (type !== "layers") throw invalidDocument(`${f.path}.type`, 'expected "layers"');
  return { type, diff_ids: (f.strings("diff_ids") ?? []).map(parseDiffId) };
}

function timestamp(text: string): string {
  if (/^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/.test(text)) return text;
  throw invalidDocument("timestamp", `${JSON.stringify(text.slice(0, 100))} is not RFC 3339`);
}

function orderedRunConfig(c: RunConfig): Encodable {
  return {
    Hostname: c.Hostname,
    Domainname: c.Domainname,
    User: c.User,
    AttachStdin: c.AttachStdin,
    AttachStdout: c.AttachStdout,
    AttachStderr: c.AttachStderr,
    ExposedPorts: c.ExposedPorts && setObject(c.ExposedPorts),
    Tty: c.Tty,
    OpenStdin: c.OpenStdin,
    StdinOnce: c.StdinOnce,
    Env: c.Env,
    Cmd: c.Cmd,
    Healthcheck: c.Healthcheck && {
      Test: c.Healthcheck.Test,
      Interval: c.Healthcheck.Interval,
      Timeout: c.Healthcheck.Timeout,
      StartPeriod: c.Healthcheck.StartPeriod,
      StartInterval: c.Healthcheck.StartInterval,
      Retries: c.Healthcheck.Retries,
    },
    ArgsEscaped: c.ArgsEscaped,
    Image: c.Image,
    Volumes: c.Volumes && setObject(c.Volumes),
    WorkingDir: c.WorkingDir,
    Entrypoint: c.Entrypoint,
    OnBuild: c.OnBuild,
    Labels: c.Labels && sortedMap(c.Labels),
    StopSignal: c.StopSignal,
    StopTimeout: c.StopTimeout,
    Shell: c.Shell,
  };
}

/** `["b", "a"]` as `{"a": {}, "b": {}}`. */
function setObject(keys: readonly string[]): Encodable {
  return sortedMap(Object.fromEntries(keys.map((key) => [key, {}])));
}
