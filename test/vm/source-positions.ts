/** Says what the machine says of compiled files in terms of the sources: names, and positions in stack traces. */
import { existsSync, readFileSync } from "node:fs";
import { SourceMap, type SourceMapPayload } from "node:module";
import { join } from "node:path";

/** Rewrites lines; `compiled` is the directory with the files and the maps beside them that became the project's disk. */
export function sourcePositions(compiled: string): (line: string) => string {
  const maps = new Map<string, SourceMap | undefined>();
  const mapOf = (path: string): SourceMap | undefined => {
    if (!maps.has(path)) {
      const file = join(compiled, `${path}.js.map`);
      const payload = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as SourceMapPayload) : undefined;
      maps.set(path, payload && new SourceMap(payload));
    }
    return maps.get(path);
  };
  const position = (all: string, path: string, line: string, column: string): string => {
    const entry = mapOf(path)?.findEntry(Number(line) - 1, Number(column) - 1);
    if (entry === undefined || !("originalLine" in entry)) return all;
    return `${path}.ts:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  };
  return (line) =>
    line
      .replace(/(?:file:\/\/)?\/project\/((?:src|test)\/\S+)\.js:(\d+):(\d+)/g, position)
      .replace(/\b((?:src|test)\/\S+)\.js\b/g, "$1.ts");
}
