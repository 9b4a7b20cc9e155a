// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles have variables of their own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DockerfileError } from "./dockerfile-error.ts";
import { copySourceStage, expandInstruction, runScriptOf } from "./expand-instruction.ts";
import { parseDockerfile, parseInstruction } from "./parse.ts";

const env: Record<string, string> = { x: "1", sp: "80 81/udp", d: "/dir" };
const lookup = (name: string) => env[name];
const expanded = (text: string) => expandInstruction(parseInstruction(text), lookup);

test("the words of these instructions are expanded", () => {
  const table: [string, object][] = [
    [
      "COPY --chown=$x:$x --chmod=0$x $d/a '$x' $d/",
      { chown: "1:1", chmod: "01", sources: ["/dir/a", "$x"], destination: "/dir/" },
    ],
    ['COPY ["$d/a b", "$d"]', { sources: ["/dir/a b"], destination: "/dir" }],
    ["ADD $x $d", { sources: ["1"], destination: "/dir" }],
    [
      "ENV a=$x b=\"$x $y\" c='$x' $x=k",
      {
        pairs: [
          { name: "a", value: "1" },
          { name: "b", value: "1 " },
          { name: "c", value: "$x" },
          { name: "1", value: "k" },
        ],
      },
    ],
    [
      "ENV x=2 y=$x",
      {
        pairs: [
          { name: "x", value: "2" },
          { name: "y", value: "1" },
        ],
      },
    ],
    ['ENV a  it is "$x"', { pairs: [{ name: "a", value: "it is 1" }] }],
    ['LABEL "a $x"="b c"', { pairs: [{ name: "a 1", value: "b c" }] }],
    ["ARG a=$x b", { args: [{ name: "a", value: "1" }, { name: "b" }] }],
    ["EXPOSE $sp 9", { ports: ["80", "81/udp", "9"] }],
    ["VOLUME $d/v", { paths: ["/dir/v"] }],
    ['VOLUME ["$d/v"]', { paths: ["/dir/v"] }],
    ["WORKDIR $d/${y:-z}", { path: "/dir/z" }],
    ["USER u$x:${y:-g}", { user: "u1:g" }],
    ["STOPSIGNAL SIG$x", { signal: "SIG1" }],
  ];
  for (const [text, members] of table) assert.deepEqual({ ...expanded(text), ...members }, expanded(text), text);
});

test("the words of those are not", () => {
  for (const text of [
    "RUN echo $x",
    'CMD ["$x"]',
    "ENTRYPOINT $x",
    'SHELL ["$x"]',
    "HEALTHCHECK CMD $x",
    "ONBUILD ENV a=$x",
    "MAINTAINER $x",
  ]) {
    const instruction = parseInstruction(text);
    assert.equal(expandInstruction(instruction, lookup), instruction, text);
  }
});

test("FROM and its platform are expanded", () => {
  const [stage] = parseDockerfile("FROM --platform=$d img:${x:-2} AS s").stages;
  assert.ok(stage);
  const from = expandInstruction(stage.from, lookup);
  assert.deepEqual([from.image, from.platform, from.name], ["img:1", "/dir", "s"]);
});

test("heredocs of COPY are expanded unless quoted, their quotes kept", () => {
  const copy = parseInstruction("COPY <<A <<'B' /d\n\"$x\" '$x' \\$x\nA\n$x\nB\n");
  const { heredocs } = expandInstruction(copy as typeof copy & { kind: "copy" }, lookup);
  assert.deepEqual(
    heredocs.map(({ content }) => content),
    ["\"1\" '1' $x\n", "$x\n"],
  );
});

test("errors name the line", () => {
  const [stage] = parseDockerfile("FROM a\n\nWORKDIR ${y:?set y}").stages;
  const [workdir] = stage?.instructions ?? [];
  assert.ok(workdir);
  assert.throws(
    () => expandInstruction(workdir, lookup, { fileName: "D" }),
    (error) =>
      error instanceof DockerfileError &&
      error.startLine === 3 &&
      error.message === "D:3: y: set y" &&
      error.code === "UNSET_VARIABLE",
  );
  assert.throws(() => expanded("ENV $y=1"), /expands to nothing/);
  assert.throws(() => expanded('COPY "a b" /c'), /matching double quote/);
});

test("what a RUN executes", () => {
  const script = (text: string) => {
    const run = parseInstruction(text);
    assert.ok(run.kind === "run");
    return runScriptOf(run);
  };
  assert.deepEqual(script('RUN ["a", "b"]'), { kind: "exec", argv: ["a", "b"] });
  assert.deepEqual(script("RUN a $b"), { kind: "shell", text: "a $b" });
  assert.deepEqual(script("RUN <<E\na\r\nb\nE"), { kind: "shell", text: "a\nb\n" });
  assert.deepEqual(script("RUN <<-E\n\ta\n\tE"), { kind: "shell", text: "a\n" });
  assert.deepEqual(script("RUN <<E\n#!/bin/python\nx\nE"), {
    kind: "script",
    name: "E",
    content: "#!/bin/python\nx\n",
  });
  assert.deepEqual(script("RUN cat <<A - 3<<-'B'\na\nA\n\tb\nB"), {
    kind: "shell",
    text: "cat <<A - 3<<-'B'\na\nA\n\tb\nB",
  });
});

test("COPY --from names an earlier stage by name or number", () => {
  const { stages } = parseDockerfile("FROM a AS one\nFROM b AS Two\nFROM c AS one\nFROM d");
  const of = (from: string, before = 3) => copySourceStage({ from }, stages, before);
  assert.deepEqual(
    ["two", "TWO", "one", "0", "1", "3", "nope"].map((from) => of(from)),
    [1, 1, 2, 0, 1, undefined, undefined],
  );
  assert.equal(of("one", 2), 0);
  assert.equal(of("one", 0), undefined);
  assert.equal(copySourceStage({}, stages, 3), undefined);
});
