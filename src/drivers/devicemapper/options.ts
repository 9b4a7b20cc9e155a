/**
 * The options of the driver devicemapper: Docker's, with Docker's checks and words.
 *
 * Which pool is used follows from them: `dm.thinpooldev` names one that is ready; `dm.directlvm_device` is a disk to set one
 * up on, with LVM; otherwise the driver makes its own, over loop files or over `dm.datadev` and `dm.metadatadev`.
 */
import type { ByteString } from "../../lib/bytes.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import { type OptionValues, optionError, readOptions } from "../option-values.ts";
import type { OptionName } from "../storage-options.ts";
import { type MountOptions, parseMountOptions } from "./mount-options.ts";

const GIB = 1024 ** 3;

export type FileSystem = "ext4" | "xfs";

/** How LVM is to divide a disk. Zero: Docker's own value. */
export interface DirectLvm {
  readonly device: string;
  readonly thinpPercent: number;
  readonly thinpMetaPercent: number;
  readonly autoExtendPercent: number;
  readonly autoExtendThreshold: number;
}

export type PoolChoice =
  | {
      readonly kind: "own";
      /** Block devices; undefined for a loop file. */
      readonly dataDevice: ByteString | undefined;
      readonly metadataDevice: ByteString | undefined;
      readonly dataLoopBytes: number;
      readonly metadataLoopBytes: number;
      readonly blockSectors: number;
    }
  | { readonly kind: "ready"; readonly name: ByteString }
  | { readonly kind: "direct-lvm"; readonly config: DirectLvm; readonly force: boolean };

export interface DevicemapperOptions {
  readonly pool: PoolChoice;
  /** Undefined: 10 GiB for a new base device, and whatever an existing one has. */
  readonly baseSizeBytes: number | undefined;
  /** Undefined: xfs where the host has it, else ext4. */
  readonly fileSystem: FileSystem | undefined;
  readonly mkfsArguments: readonly string[];
  readonly mount: MountOptions;
  readonly discard: boolean;
  /** Undefined: where the kernel can. */
  readonly deferredRemoval: boolean | undefined;
  readonly deferredDeletion: boolean | undefined;
  readonly minFreePercent: number;
  readonly xfsNospaceRetries: number | undefined;
}

type Values = OptionValues<OptionName<"devicemapper">>;

/** Size of a base device when none is asked for. */
export const STANDARD_BASE_BYTES = 10 * GIB;

/** Errors: invalid_argument. */
export function parseDevicemapperOptions(given: Readonly<Record<string, string>>): DevicemapperOptions {
  const values = readOptions("devicemapper", given);
  const pool = poolOf(values);
  const deferredRemoval = values.boolean("dm.use_deferred_removal");
  const deferredDeletion = values.boolean("dm.use_deferred_deletion");
  if (deferredDeletion && deferredRemoval === false)
    throw optionError(
      "devmapper: Deferred deletion can not be enabled as deferred removal is not enabled. " +
        "Enable deferred removal using --storage-opt dm.use_deferred_removal=true parameter",
    );
  checkWithoutEffect(values);
  return {
    pool,
    baseSizeBytes: values.sizeBytes("dm.basesize"),
    fileSystem: fileSystemOf(values),
    mkfsArguments: (values.text("dm.mkfsarg") ?? "").split(/\s+/).filter((word) => word !== ""),
    mount: parseMountOptions(values.text("dm.mountopt") ?? ""),
    discard: values.boolean("dm.blkdiscard") ?? (pool.kind === "own" && pool.dataDevice === undefined),
    deferredRemoval,
    deferredDeletion: deferredDeletion ?? deferredRemoval,
    minFreePercent: minFreeOf(values),
    xfsNospaceRetries: values.whole("dm.xfs_nospace_max_retries"),
  };
}

function poolOf(values: Values): PoolChoice {
  const directLvm = directLvmOf(values);
  const thinPool = values.text("dm.thinpooldev");
  if (directLvm !== undefined) {
    if (thinPool !== undefined) throw optionError("cannot setup direct-lvm when `dm.thinpooldev` is also specified");
    return { kind: "direct-lvm", config: directLvm, force: values.boolean("dm.directlvm_device_force") ?? false };
  }
  if (thinPool !== undefined) return { kind: "ready", name: bytesOfText(thinPool.replace(/^\/dev\/mapper\//, "")) };
  const device = (name: "dm.datadev" | "dm.metadatadev"): ByteString | undefined => {
    const path = values.text(name);
    return path === undefined ? undefined : bytesOfText(path);
  };
  return {
    kind: "own",
    dataDevice: device("dm.datadev"),
    metadataDevice: device("dm.metadatadev"),
    dataLoopBytes: values.sizeBytes("dm.loopdatasize") ?? 100 * GIB,
    metadataLoopBytes: values.sizeBytes("dm.loopmetadatasize") ?? 2 * GIB,
    blockSectors: blockSectorsOf(values),
  };
}

/** The kernel's limits: 64 KiB to 1 GiB in steps of 64 KiB. */
function blockSectorsOf(values: Values): number {
  const bytes = values.sizeBytes("dm.blocksize") ?? 65536;
  if (bytes < 65536 || bytes > GIB || bytes % 65536 !== 0)
    throw optionError(
      `dm.blocksize=${values.text("dm.blocksize")}: a thin pool's blocks are a multiple of 64K, at most 1G`,
    );
  return bytes / 512;
}

function fileSystemOf(values: Values): FileSystem | undefined {
  const name = values.text("dm.fs");
  if (name === undefined || name === "ext4" || name === "xfs") return name;
  throw optionError(`devmapper: Unsupported filesystem ${name}`, "dm.fs is ext4 or xfs");
}

function minFreeOf(values: Values): number {
  const text = values.text("dm.min_free_space");
  if (text !== undefined && !text.endsWith("%"))
    throw optionError("devmapper: Option dm.min_free_space requires % suffix");
  const percent = values.percent("dm.min_free_space") ?? 10;
  if (percent >= 100) throw optionError(`devmapper: Invalid value ${text} for option dm.min_free_space`);
  return percent;
}

function directLvmOf(values: Values): DirectLvm | undefined {
  const share = (name: "dm.thinp_percent" | "dm.thinp_metapercent", most: number): number => {
    const percent = values.percent(name) ?? 0;
    if (percent > most) throw optionError(`${name} must be greater than 0 and less than 100`);
    return percent;
  };
  const extend = (name: "dm.thinp_autoextend_percent" | "dm.thinp_autoextend_threshold"): number => {
    const percent = values.percent(name) ?? 0;
    if (percent > 100) throw optionError(`${name} must be greater than 0 and less than 100`);
    return percent;
  };
  const config: DirectLvm = {
    device: values.text("dm.directlvm_device") ?? "",
    thinpPercent: share("dm.thinp_percent", 99),
    thinpMetaPercent: share("dm.thinp_metapercent", 99),
    autoExtendPercent: extend("dm.thinp_autoextend_percent"),
    autoExtendThreshold: extend("dm.thinp_autoextend_threshold"),
  };
  const { device, ...numbers } = config;
  if (device === "" && Object.values(numbers).every((number) => number === 0)) return undefined;
  if (device === "")
    throw optionError("must provide device path in `dm.directlvm_device` in order to configure direct-lvm");
  if (config.thinpPercent > 0 !== config.thinpMetaPercent > 0)
    throw optionError("must set both `dm.thinp_percent` and `dm.thinp_metapercent` if either is specified");
  if (config.thinpPercent + config.thinpMetaPercent > 100)
    throw optionError("combined `dm.thinp_percent` and `dm.thinp_metapercent` must not be greater than 100");
  return config;
}

/** Options about libdm, which is not used: read so that what Docker refuses is refused. */
function checkWithoutEffect(values: Values): void {
  values.boolean("dm.override_udev_sync_check");
  const level = values.text("dm.libdm_log_level");
  if (level === undefined) return;
  if (!/^[+-]?\d+$/.test(level)) throw optionError(`could not parse \`dm.libdm_log_level=${level}\``);
  if (Number(level) < 2 || Number(level) > 7) throw optionError("dm.libdm_log_level must be in range [2,7]");
}
