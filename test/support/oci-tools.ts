/** skopeo and umoci: the tools that read what we write without any of Docker's code for storing it. */
import { spawnSync } from "node:child_process";

/** Undefined when every tool is there, else the reason to skip. */
export function missingTools(...tools: readonly string[]): string | undefined {
  const missing = tools.filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);
  return missing.length === 0 ? undefined : `${missing.join(" and ")} not installed`;
}

/** Runs a tool; answers its standard output, throws with all it printed when it fails. */
export function runTool(tool: string, args: readonly string[], cwd?: string): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { cwd, encoding: "utf8", maxBuffer: 1 << 28 });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")} failed:\n${stdout}${stderr}`);
  return stdout;
}

/** skopeo without a signature policy of the host, which a fresh machine has not. */
export function skopeo(...args: readonly string[]): string {
  return runTool("skopeo", ["--insecure-policy", ...args]);
}
