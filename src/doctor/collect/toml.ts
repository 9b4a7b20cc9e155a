/**
 * The part of TOML that storage.conf and containerd's config.toml are written in, as far as single keys are asked for:
 * tables, and keys with strings, truth values, numbers and lists of strings. Whatever else stands there is passed over.
 */

/** Values by their full key: `storage.options.overlay.mountopt`. Keys with dots in quotes keep the quotes away. */
export function parseToml(text: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  let table: string[] = [];
  for (const line of joinLists(text)) {
    const header = /^\[\s*([^[\]]+?)\s*\]\s*(?:#.*)?$/.exec(line);
    if (header !== null) {
      table = keysOf(header[1] ?? "");
      continue;
    }
    const [, key, value] = /^("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) values.set([...table, ...keysOf(key)].join("."), scalarOf(value));
  }
  return values;
}

function* joinLists(text: string): Generator<string> {
  let open = "";
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const joined = open + line;
    open = /=\s*\[[^\]]*$/.test(joined) ? `${joined} ` : "";
    if (open === "") yield joined;
  }
}

function keysOf(dotted: string): string[] {
  return [...dotted.matchAll(/"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? "");
}

function scalarOf(text: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"|^'([^']*)'/.exec(text);
  if (quoted !== null) return (quoted[1] ?? quoted[2] ?? "").replace(/\\(.)/g, "$1");
  return text.startsWith("[") ? text : text.replace(/\s*#.*$/, "");
}
