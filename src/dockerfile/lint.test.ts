// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles have variables of their own.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { lintDockerfile } from "./lint.ts";
import { parseDockerfile } from "./parse.ts";

const lint = (text: string) => lintDockerfile(parseDockerfile(text)).map(({ code, line }) => `${line} ${code}`);

test("each rule finds its case and not the neighbouring good one", () => {
  const table: [text: string, warnings: string[]][] = [
    ['FROM a AS b\nRUN x\nCMD ["y"]', []],
    ["FROM a\nrun x\nRUN y", ["2 CONSISTENT_CASING"]],
    ["from a\nrun x\nRUN y", ["3 CONSISTENT_CASING"]],
    ["FROM a as b", ["1 FROM_AS_CASING"]],
    ["from a as b", []],
    ["FROM a AS x\nFROM b AS X", ["2 DUPLICATE_STAGE"]],
    ["FROM a AS scratch", ["1 RESERVED_STAGE"]],
    ["FROM a\nCMD ['x', 'y']", ["2 JSON_QUOTES"]],
    ['FROM a\nRUN ["x", "y",]', ["2 JSON_QUOTES"]],
    ["FROM a\nRUN [ -f x ]", []],
    ["FROM a\nRUN [[ -f 'x' ]]", []],
    ["FROM a\nENTRYPOINT x", ["2 SHELL_FORM_ENTRYPOINT"]],
    ['FROM a\nCMD ["x"]\nCMD ["y"]\nFROM b\nCMD ["z"]', ["2 OVERRIDDEN"]],
    ["FROM a\nENV x y\nLABEL a b", ["2 LEGACY_KEY_VALUE", "3 LEGACY_KEY_VALUE"]],
    ["FROM a\nMAINTAINER x", ["2 MAINTAINER"]],
    ["FROM a\nWORKDIR x\nWORKDIR /y\nWORKDIR z", ["2 RELATIVE_WORKDIR"]],
    ["FROM a\nRUN x \\\n\n y", ["3 EMPTY_CONTINUATION"]],
    ["FROM a\nARG DB_PASSWORD\nENV API_TOKEN=x TOKENIZER=y", ["2 SECRET_IN_IMAGE", "3 SECRET_IN_IMAGE"]],
    ["ARG A\nFROM $A-$B-${C:-x}-$TARGETARCH", ["2 UNDEFINED_ARG_IN_FROM"]],
    ["FROM scratch\nARG a=1\nENV b=$a\nCOPY $a $b$c /\nUSER ${d:-x}", ["4 UNDEFINED_VARIABLE"]],
    ["FROM image\nUSER $x", []],
    ["FROM scratch AS s\nARG a\nENV b=1\nFROM s\nUSER $b\nUSER $a", ["6 UNDEFINED_VARIABLE"]],
    ["FROM scratch\nUSER ${x", []],
  ];
  for (const [text, warnings] of table) assert.deepEqual(lint(text), warnings, text);
});

test("the Go cross build only mixes the case of FROM and as", () => {
  const text = readFileSync(new URL("fixtures/go-cross-build.Dockerfile", import.meta.url), "utf8");
  assert.deepEqual(lint(text), ["5 FROM_AS_CASING"]);
});
