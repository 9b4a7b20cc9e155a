/** The table of storage options as `lamella info --help` shows it. */
import { type StorageOption, storageOptions } from "../drivers/storage-options.ts";

export function storageOptionsHelp(): string {
  const lines = ["Storage options (--storage-opt, --driver-opt):"];
  for (const [driver, options] of Object.entries<readonly StorageOption[]>(storageOptions)) {
    lines.push(`  ${driver}: ${options.length === 0 ? "none" : ""}`.trimEnd());
    for (const option of options) lines.push(...helpOf(option));
  }
  return `${lines.join("\n")}\n`;
}

function helpOf({ name, value, meaning, standard, docker, gone }: StorageOption): string[] {
  if (gone !== undefined) return [`    ${name}`, `      was ${gone}`];
  const since = docker === undefined ? "Lamella's own" : `Docker ${docker}`;
  return [`    ${name}=<${value}>`, `      ${meaning}`, `      default: ${standard} (${since})`];
}
