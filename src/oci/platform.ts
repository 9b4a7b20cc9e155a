/**
 * Platforms, written `os/architecture[/variant]` with Go's names, normalised so that one platform has one spelling
 * (`aarch64` → `arm64`, `arm` → `arm/v7`, `arm64/v8` → `arm64`, `amd64/v1` → `amd64`).
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { defined, type Fields } from "./fields.ts";

export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly "os.version"?: string;
  readonly "os.features"?: readonly string[];
  readonly variant?: string;
}

const operatingSystems = new Set(
  "aix android darwin dragonfly freebsd illumos ios linux netbsd openbsd plan9 solaris wasip1 windows".split(" "),
);

/** Other names of an architecture, and the variant they imply. */
const architectureAliases: ReadonlyMap<string, readonly [string, string?]> = new Map([
  ["x86_64", ["amd64"]],
  ["x86-64", ["amd64"]],
  ["i386", ["386"]],
  ["i686", ["386"]],
  ["aarch64", ["arm64"]],
  ["armhf", ["arm", "v7"]],
  ["armel", ["arm", "v6"]],
  ["loongarch64", ["loong64"]],
]);

const architectures = new Set(
  "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split(" "),
);

/** Node's `process.arch` values that Go names otherwise. Node's `ppc64` on Linux is little endian. */
const architecturesOfNode: ReadonlyMap<string, string> = new Map([
  ["x64", "amd64"],
  ["ia32", "386"],
  ["ppc64", "ppc64le"],
  ["mipsel", "mipsle"],
]);

const component = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;

/**
 * Parses `linux/arm/v7`, `linux/amd64`, or one component alone: an operating system (the architecture is `host`'s) or an
 * architecture (the operating system is `host`'s, else linux). Throws `invalid_argument` (INVALID_PLATFORM).
 */
export function parsePlatform(text: string, host?: Platform): Platform {
  const parts = text.split("/");
  const [first = "", second, variant] = parts;
  if (parts.length > 3 || !parts.every((part) => component.test(part))) throw invalidPlatform(text);
  if (second !== undefined) return normalizePlatform(defined({ os: first, architecture: second, variant }));

  const lower = first.toLowerCase();
  if (operatingSystems.has(lower)) {
    if (host === undefined) throw invalidPlatform(text);
    return normalizePlatform({ ...host, os: lower });
  }
  if (!architectures.has(lower) && !architectureAliases.has(lower)) throw invalidPlatform(text);
  return normalizePlatform({ os: host?.os ?? "linux", architecture: lower });
}

/** The same platform in its one spelling. */
export function normalizePlatform(platform: Platform): Platform {
  let architecture = platform.architecture.toLowerCase();
  let variant = platform.variant?.toLowerCase();
  const alias = architectureAliases.get(architecture);
  if (alias !== undefined) {
    architecture = alias[0];
    variant ??= alias[1];
  }
  if (variant !== undefined && /^[0-9]/.test(variant)) variant = `v${variant}`;
  if (architecture === "arm" && !variant) variant = "v7";
  if ((architecture === "arm64" && variant === "v8") || (architecture === "amd64" && variant === "v1")) variant = "";
  const { "os.version": osVersion, "os.features": osFeatures } = platform;
  return defined({
    architecture,
    os: platform.os.toLowerCase() === "macos" ? "darwin" : platform.os.toLowerCase(),
    "os.version": osVersion,
    "os.features": osFeatures,
    variant: variant || undefined,
  });
}

/** `os/architecture[/variant]`. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  return variant ? `${os}/${architecture}/${variant}` : `${os}/${architecture}`;
}

/** The Linux platform of a Node.js `process.arch`. */
export function platformOfNode(arch: string): Platform {
  return normalizePlatform({ os: "linux", architecture: architecturesOfNode.get(arch) ?? arch });
}

/** True when both name the same operating system, architecture and variant. */
export function samePlatform(a: Platform, b: Platform): boolean {
  return formatPlatform(normalizePlatform(a)) === formatPlatform(normalizePlatform(b));
}

/**
 * How well a machine of platform `host` runs `offered`: 0 exactly, 1 and more for older variants of the same
 * architecture, undefined not at all. Choose the smallest.
 */
export function platformDistance(host: Platform, offered: Platform): number | undefined {
  const h = normalizePlatform(host);
  const o = normalizePlatform(offered);
  if (h.os !== o.os || h.architecture !== o.architecture) return undefined;
  const distance = variantNumber(h) - variantNumber(o);
  return distance >= 0 ? distance : undefined;
}

/** The variant as a number, the architecture's first one when none is named. */
function variantNumber({ architecture, variant }: Platform): number {
  const named = /^v([0-9]+)/.exec(variant ?? "")?.[1];
  if (named !== undefined) return Number(named);
  return architecture === "arm64" ? 8 : 1;
}

/** Reads a descriptor's `platform` member; its spelling is kept. */
export function platformOfFields(fields: Fields): Platform {
  return defined({
    architecture: fields.requiredString("architecture"),
    os: fields.requiredString("os"),
    "os.version": fields.string("os.version"),
    "os.features": fields.strings("os.features"),
    variant: fields.string("variant"),
  });
}

function invalidPlatform(text: string): LamellaError {
  return new LamellaError(
    "invalid_argument",
    "INVALID_PLATFORM",
    `invalid platform ${JSON.stringify(text.slice(0, 100))}`,
    { hint: "write os/architecture[/variant], for example linux/amd64 or linux/arm/v7" },
  );
}
