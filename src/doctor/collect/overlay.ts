/**
 * The overlay module's parameters: now, as compiled, as configured, and which of these holds after a reboot.
 *
 * Built in, the kernel itself reads `overlay.NAME=VALUE` from its command line, and modprobe.d plays no part. As a module,
 * modprobe hands over the options of modprobe.d and then those of the command line (kmod, libkmod-config.c: the command line
 * is read after all files), and of an option given twice the kernel takes the last.
 */
import { gunzipSync } from "node:zlib";
import type { FutureValue, OptionSource, OverlayFacts, OverlayPresence } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import { overlayDefaults } from "../kernel-config.ts";
import { overlayOptionsOfCommandLine, overlayOptionsOfModprobe } from "../module-options.ts";

const parametersAt = "/sys/module/overlay/parameters";
/** modprobe.d(5): a file hides those of the same name in the directories after it. */
const modprobeDirectories = [
  "/etc/modprobe.d",
  "/run/modprobe.d",
  "/usr/local/lib/modprobe.d",
  "/usr/lib/modprobe.d",
  "/lib/modprobe.d",
];

export function overlayFacts(host: HostView, kernel: string): OverlayFacts {
  const parameters: Record<string, string> = {};
  for (const name of host.names(parametersAt) ?? []) {
    const value = host.text(`${parametersAt}/${name}`);
    if (value !== undefined) parameters[name] = value.trim();
  }
  const config = kernelConfig(host, kernel);
  const defaults = config === undefined ? undefined : overlayDefaults(config.text);
  const modprobe = modprobeOptions(host);
  const commandLine = overlayOptionsOfCommandLine(host.text("/proc/cmdline") ?? "");
  const presence = presenceOf(host, kernel, defaults?.overlay);
  const compiled = config !== undefined && defaults ? { file: config.file, values: defaults.values } : undefined;
  return {
    presence,
    parameters,
    ...(compiled !== undefined && { compiled }),
    modprobe,
    commandLine,
    afterReboot: afterReboot({ presence, compiled, modprobe, commandLine }),
  };
}

function kernelConfig(host: HostView, kernel: string): { file: string; text: string } | undefined {
  for (const file of [`/boot/config-${kernel}`, `/lib/modules/${kernel}/config`, `/usr/lib/modules/${kernel}/config`]) {
    const text = host.text(file);
    if (text !== undefined) return { file, text };
  }
  const file = "/proc/config.gz";
  const packed = host.bytes(file);
  try {
    if (packed !== undefined) return { file, text: gunzipSync(packed).toString("latin1") };
  } catch {
    host.missed(file, "it is not gzip");
    return undefined;
  }
  host.missed(
    "the defaults the kernel was compiled with",
    `neither /boot/config-${kernel} nor /proc/config.gz is there`,
  );
  return undefined;
}

function presenceOf(host: HostView, kernel: string, configured: "y" | "m" | "n" | undefined): OverlayPresence {
  const isLoaded = host.exists("/sys/module/overlay") || /^nodev\toverlay$/m.test(host.text("/proc/filesystems") ?? "");
  if (configured === "y" || isBuiltIn(host, kernel)) return "builtin";
  // A module has a coresize; what is built in has parameters alone.
  if (isLoaded) return configured === "m" || host.exists("/sys/module/overlay/coresize") ? "loaded module" : "builtin";
  if (configured === "m" || host.exists(`/lib/modules/${kernel}/kernel/fs/overlayfs`)) return "module";
  return configured === "n" ? "absent" : "unknown";
}

function isBuiltIn(host: HostView, kernel: string): boolean {
  return /\/overlay\.ko$/m.test(host.text(`/lib/modules/${kernel}/modules.builtin`) ?? "");
}

function modprobeOptions(host: HostView): OptionSource[] {
  const files = new Map<string, string>();
  for (const directory of modprobeDirectories) {
    for (const name of host.names(directory) ?? [])
      if (name.endsWith(".conf") && !files.has(name)) files.set(name, `${directory}/${name}`);
  }
  return [...files]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, path]) => overlayOptionsOfModprobe(host.text(path) ?? "", path));
}

interface Sources {
  readonly presence: OverlayPresence;
  readonly compiled: OverlayFacts["compiled"] | undefined;
  readonly modprobe: readonly OptionSource[];
  readonly commandLine: readonly OptionSource[];
}

/** The last word wins: compiled in, then modprobe.d (of a module), then the command line. */
export function afterReboot({ presence, compiled, modprobe, commandLine }: Sources): Record<string, FutureValue> {
  const future: Record<string, FutureValue> = {};
  for (const [name, value] of Object.entries(compiled?.values ?? {}))
    future[name] = { value, source: compiled?.file ?? "" };
  const isModule = presence === "loaded module" || presence === "module";
  for (const { name, value, source } of [...(isModule ? modprobe : []), ...commandLine])
    future[name] = { value, source };
  return future;
}
