import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type StorageOption, storageOptions } from "./storage-options.ts";

const drivers = Object.entries<readonly StorageOption[]>(storageOptions);

function rowOf(driver: string, { name, value, meaning, standard, docker, gone }: StorageOption): string {
  const what = gone === undefined ? [meaning, standard] : [`was ${gone}`, ""];
  return `| ${[driver, `\`${name}\``, value, ...what, docker ?? "no"].join(" | ")} |`;
}

test("every name is there once, in lower case", () => {
  const names = drivers.flatMap(([, options]) => options.map(({ name }) => name));
  assert.deepEqual(names, [...new Set(names)]);
  for (const name of names) assert.equal(name, name.toLowerCase());
});

test("docs/drivers.md has the table as it is", () => {
  const text = readFileSync(join(import.meta.dirname, "../../docs/drivers.md"), "utf8");
  const rows = drivers.flatMap(([driver, options]) => options.map((option) => rowOf(driver, option)));
  const at = text.indexOf("| driver | option | value |");
  const table = text.slice(at).split("\n");
  const documented = table.slice(2, table.indexOf(""));
  assert.deepEqual(documented, rows);
});
