// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles have variables of their own.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import type { Instruction } from "./ast.ts";
import { DockerfileError } from "./dockerfile-error.ts";
import { parseDockerfile, parseInstruction } from "./parse.ts";

/** The first instruction after `FROM scratch`, without its place. */
function one(text: string): Omit<Instruction, "startLine" | "endLine" | "keyword" | "original"> {
  const [instruction] = parseDockerfile(`FROM scratch\n${text}`).stages[0]?.instructions ?? [];
  assert.ok(instruction);
  const { startLine, endLine, keyword, original, ...rest } = instruction;
  return rest;
}

function failure(text: string): DockerfileError {
  try {
    parseDockerfile(text);
  } catch (error) {
    assert.ok(error instanceof DockerfileError, String(error));
    return error;
  }
  assert.fail(`accepted: ${text}`);
}

test("lines are counted through comments, blank lines, continuations and heredocs", () => {
  const text = `# a comment

FROM scratch
RUN a \\
  # inside
  b \\

  c
copy <<A <<-"B" \\
  /dest/
one
A
\ttwo
\tB
RUN last`;
  const { stages, emptyContinuationLines } = parseDockerfile(text);
  const places = stages[0]?.instructions.map(({ kind, startLine, endLine }) => [kind, startLine, endLine]);
  assert.deepEqual(places, [
    ["run", 4, 8],
    ["copy", 9, 14],
    ["run", 15, 15],
  ]);
  assert.deepEqual(emptyContinuationLines, [7]);
  assert.equal(stages[0]?.instructions[0]?.original, "RUN a   b   c");
  assert.equal(stages[0]?.instructions[1]?.original, 'copy <<A <<-"B"   /dest/');
});

test("shell and JSON forms", () => {
  const exec = (...argv: string[]) => ({ form: "exec", argv });
  const shell = (text: string) => ({ form: "shell", text });
  const table: [string, object][] = [
    ['CMD ["a", "b c"]', exec("a", "b c")],
    ['CMD [ "a" , "\\u00e9" ] ', exec("a", "é")],
    ["CMD []", exec()],
    ["CMD a  'b'", shell("a  'b'")],
    ["CMD ['a', 'b']", shell("['a', 'b']")],
    ['CMD ["a"] b', shell('["a"] b')],
    ["CMD [[ -f x ]] && y", shell("[[ -f x ]] && y")],
    ["ENTRYPOINT exec top", shell("exec top")],
  ];
  for (const [text, command] of table) assert.deepEqual((one(text) as { command?: object }).command, command, text);
  assert.deepEqual(one('SHELL ["/bin/bash", "-c"]'), { kind: "shell", argv: ["/bin/bash", "-c"] });
  assert.deepEqual(one('VOLUME ["/a b", "/c"]'), { kind: "volume", paths: ["/a b", "/c"] });
  assert.deepEqual(one("VOLUME /a /c"), { kind: "volume", paths: ["/a", "/c"] });
  assert.match(failure("FROM a\nCMD [1]").message, /^Dockerfile:2: the JSON array of CMD must hold strings only/);
});

test("every instruction", () => {
  const run = { kind: "run", heredocs: [], mounts: [] };
  const copy = { kind: "copy", heredocs: [], link: false, parents: false, exclude: [] };
  const table: [string, object][] = [
    ["RUN echo hi", { ...run, command: { form: "shell", text: "echo hi" } }],
    [
      "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none x",
      {
        ...run,
        mounts: ["type=cache,target=/c", "type=tmpfs,target=/t"],
        network: "none",
        command: { form: "shell", text: "x" },
      },
    ],
    ["RUN -- --x", { ...run, command: { form: "shell", text: "--x" } }],
    ["COPY a b /d/", { ...copy, sources: ["a", "b"], destination: "/d/" }],
    ['COPY ["a b", "/d"]', { ...copy, sources: ["a b"], destination: "/d" }],
    [
      "COPY --from=builder --chown=1:$G --chmod=755 --link --exclude=*.md --exclude=x a /d",
      {
        ...copy,
        from: "builder",
        chown: "1:$G",
        chmod: "755",
        link: true,
        exclude: ["*.md", "x"],
        sources: ["a"],
        destination: "/d",
      },
    ],
    [
      "ADD --checksum=sha256:0 --keep-git-dir=false --unpack=false a /d",
      {
        kind: "add",
        heredocs: [],
        link: false,
        exclude: [],
        checksum: "sha256:0",
        keepGitDir: false,
        unpack: false,
        sources: ["a"],
        destination: "/d",
      },
    ],
    [
      `ENV a=1 b="x y" c='z' d=e\\ f`,
      {
        kind: "env",
        legacy: false,
        pairs: [
          { name: "a", value: "1" },
          { name: "b", value: '"x y"' },
          { name: "c", value: "'z'" },
          { name: "d", value: "e\\ f" },
        ],
      },
    ],
    ["ENV a b = c  d", { kind: "env", legacy: true, pairs: [{ name: "a", value: "b = c  d" }] }],
    ["ENV a=b=c", { kind: "env", legacy: false, pairs: [{ name: "a", value: "b=c" }] }],
    ['LABEL "a b"=1', { kind: "label", legacy: false, pairs: [{ name: '"a b"', value: "1" }] }],
    ["ARG a b=1 c=", { kind: "arg", args: [{ name: "a" }, { name: "b", value: "1" }, { name: "c", value: "" }] }],
    ["WORKDIR /a b", { kind: "workdir", path: "/a b" }],
    ["USER 65532:65532", { kind: "user", user: "65532:65532" }],
    ["EXPOSE 80 53/udp $P", { kind: "expose", ports: ["80", "53/udp", "$P"] }],
    ["STOPSIGNAL SIGTERM", { kind: "stopsignal", signal: "SIGTERM" }],
    ["MAINTAINER A <a@b>", { kind: "maintainer", maintainer: "A <a@b>" }],
    ["HEALTHCHECK none", { kind: "healthcheck", test: ["NONE"] }],
    [
      "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0 --retries=3 CMD curl -f x || exit 1",
      {
        kind: "healthcheck",
        test: ["CMD-SHELL", "curl -f x || exit 1"],
        intervalNs: 90e9,
        timeoutNs: 5e8,
        startPeriodNs: 0,
        retries: 3,
      },
    ],
    ['HEALTHCHECK CMD ["a", "b"]', { kind: "healthcheck", test: ["CMD", "a", "b"] }],
    ["ONBUILD  COPY --chown=1 a  /b", { kind: "onbuild", trigger: "COPY --chown=1 a  /b" }],
    ["onbuild run <<E\nx\nE", { kind: "onbuild", trigger: "run <<E\nx\nE" }],
  ];
  for (const [text, expected] of table) assert.deepEqual(one(text), expected, text);
});

test("heredocs: several, quoted, with tabs, in shell commands, not in JSON forms", () => {
  const { stages } = parseDockerfile(`FROM scratch
RUN <<EOF cat >/x && 3<<-"E O F" cat
# no comment
a \\
EOF
\t\tb
\tE O F
RUN ["echo", "<<EOF"]
RUN echo $((1 << 2)) "a <<EOF" <<<word
COPY --chown=1 <<'A' b /d
$x
A`);
  const [run, json, shift, copy] = stages[0]?.instructions ?? [];
  assert.ok(run?.kind === "run" && json?.kind === "run" && shift?.kind === "run" && copy?.kind === "copy");
  assert.deepEqual(
    run.heredocs.map(({ name, content, raw, expand, stripTabs }) => ({ name, content, raw, expand, stripTabs })),
    [
      { name: "EOF", content: "# no comment\na \\\n", raw: "# no comment\na \\\n", expand: true, stripTabs: false },
      { name: "E O F", content: "b\n", raw: "\t\tb\n", expand: false, stripTabs: true },
    ],
  );
  assert.equal(json.heredocs.length + shift.heredocs.length, 0);
  assert.deepEqual(copy.sources, ["b"]);
  assert.deepEqual(copy.heredocs[0]?.expand, false);

  const error = failure("FROM a\nRUN <<E\nx\n");
  assert.equal(error.code, "DOCKERFILE_HEREDOC");
  assert.deepEqual([error.startLine, error.endLine], [2, 3]);
  assert.match(failure("FROM a\nCOPY a <<E\nx\nE").message, /destination/);
});

test("directives: escape, syntax (H59: recorded, nothing else), check", () => {
  const { directives, stages } = parseDockerfile(
    "# syntax=evil.example/front:1\r\n#ESCAPE = `\r\n# check=skip=all\r\nFROM scratch\r\nRUN a `\r\n b c:\\\r\nENV x=a` b\r\n",
  );
  assert.deepEqual(directives, { escape: "`", syntax: "evil.example/front:1", check: "skip=all" });
  assert.deepEqual(
    stages[0]?.instructions.map(({ original }) => original),
    ["RUN a  b c:\\", "ENV x=a` b"],
  );
  const env = stages[0]?.instructions[1];
  assert.ok(env?.kind === "env");
  assert.deepEqual(env.pairs, [{ name: "x", value: "a` b" }]);

  // After anything else they are comments.
  for (const head of ["\n", "# hello\n", "# unknown=1\n"]) {
    assert.equal(parseDockerfile(`${head}# escape=\`\nFROM a`).directives.escape, "\\");
  }
  assert.match(failure("# escape=x\nFROM a").message, /^Dockerfile:1: invalid escape "x"/);
  assert.match(failure("# escape=`\n# escape=`\nFROM a").message, /^Dockerfile:2: .*twice/);
});

test("a byte order mark, CRLF, tabs and mixed case change nothing", () => {
  const { stages } = parseDockerfile("\ufefffrom\tscratch  As B.1\r\n\trun\ta \\ \t\r\n\t b\r\n\r\n");
  assert.equal(stages[0]?.name, "b.1");
  assert.equal(stages[0]?.from.nameAsWritten, "B.1");
  const [run] = stages[0]?.instructions ?? [];
  assert.ok(run?.kind === "run");
  assert.deepEqual(run.command, { form: "shell", text: "a \t b" });
  assert.deepEqual([run.startLine, run.endLine], [2, 3]);
});

test("a doubled escape at a line's end continues nothing; one at the file's end is dropped", () => {
  const { stages } = parseDockerfile("FROM a\nRUN x \\\\\nRUN y \\");
  assert.deepEqual(
    stages[0]?.instructions.map(({ original }) => original),
    ["RUN x \\\\", "RUN y"],
  );
});

test("errors name the line and what to do", () => {
  const table: [text: string, line: number, message: RegExp, hint?: string][] = [
    ["", 1, /no FROM/],
    ["# only a comment\n", 1, /no FROM/],
    ["ARG a\n\n", 1, /no FROM/],
    ["RUN x\nFROM a", 1, /RUN before the first FROM/],
    ["FROM a\n\nRUNN x", 3, /unknown instruction: RUNN/, "did you mean RUN?"],
    ["FROM a\nconstructor x", 2, /unknown instruction: constructor/],
    ["FROM a\nENTRYPONT x", 2, /unknown/, "did you mean ENTRYPOINT?"],
    ["FROM", 1, /FROM requires at least one argument/],
    ["FROM a b", 1, /one or three/],
    ["FROM a is b", 1, /one or three/],
    ["FROM a as 1b", 1, /invalid name for build stage/],
    ["FROM --plattform=x a", 1, /FROM has no flag --plattform/, "did you mean platform?"],
    ["FROM --platform= a", 1, /needs a value/],
    ["FROM a\nCOPY --from=b --from=c x y", 2, /--from is given twice/],
    ["FROM a\nCOPY --link=maybe x y", 2, /true or false/],
    ["FROM a\nRUN", 2, /RUN requires/],
    ["FROM a\nRUN \\\n  # c\n\n", 2, /RUN requires/],
    ["FROM a\nCOPY a", 2, /at least two/],
    ["FROM a\nENV a", 2, /two arguments/],
    ["FROM a\nENV a=1 b", 2, /can't find = in "b"/],
    ["FROM a\nENV a=1 =b", 2, /names can not be blank/],
    ["FROM a\nARG =b", 2, /names can not be blank/],
    ["FROM a\nSHELL bash", 2, /JSON array/],
    ["FROM a\nVOLUME []", 2, /VOLUME/],
    ["FROM a\nSTOPSIGNAL a b", 2, /exactly one/],
    ["FROM a\nHEALTHCHECK", 2, /requires/],
    ["FROM a\nHEALTHCHECK NONE x", 2, /no arguments/],
    ["FROM a\nHEALTHCHECK curl x", 2, /unknown type "curl"/],
    ["FROM a\nHEALTHCHECK CMD", 2, /missing command/],
    ["FROM a\nHEALTHCHECK --interval=5 CMD x", 2, /no duration/],
    ["FROM a\nHEALTHCHECK --interval=1us CMD x", 2, /at least 1ms/],
    ["FROM a\nHEALTHCHECK --retries=-1 CMD x", 2, /no number/],
    ["FROM a\nONBUILD ONBUILD RUN x", 2, /not allowed/],
    ["FROM a\nONBUILD FROM x", 2, /not allowed/],
    ["FROM a\nONBUILD NOPE x", 2, /unknown instruction/],
    ["FROM a\nCMD --x y", 2, /CMD has no flag --x/],
  ];
  for (const [text, line, message, hint] of table) {
    const error = failure(text);
    assert.equal(error.startLine, line, text);
    assert.match(error.message, message, text);
    assert.ok(error.message.startsWith(`Dockerfile:${line}: `), text);
    if (hint !== undefined) assert.equal(error.hint, hint, text);
  }
  assert.throws(
    () => parseDockerfile("X", { fileName: "build/App.Dockerfile" }),
    /^DockerfileError: build\/App\.Dockerfile:1: /,
  );
});

test("triggers are parsed on their own", () => {
  assert.equal(parseInstruction("RUN a \\\n b").original, "RUN a  b");
  assert.equal(parseInstruction("COPY <<E /x\ny\nE").kind, "copy");
  for (const text of ["", "RUN a\nRUN b", "FROM a", "# escape=`"]) {
    assert.throws(
      () => parseInstruction(text),
      (error) => isLamellaError(error, "invalid_argument"),
      text,
    );
  }
});

test("any text parses or fails with a DockerfileError inside it", () => {
  const fragments = [
    "FROM a",
    "RUN",
    "COPY",
    "ENV",
    "\n",
    "\r\n",
    " ",
    "\\",
    "\\\n",
    "<<E",
    "E",
    "#",
    "# escape=`\n",
    "[",
    '"',
    "'",
    "]",
    "=",
    "--x=",
    "$",
    "${",
    "ONBUILD ",
    "HEALTHCHECK CMD ",
    "\t",
    "\0",
    "é",
    "`",
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...fragments), { maxLength: 20 }), (parts) => {
      const text = parts.join("");
      try {
        let last = 0;
        for (const stage of parseDockerfile(text).stages) {
          for (const { startLine, endLine } of [stage.from, ...stage.instructions]) {
            assert.ok(last < startLine && startLine <= endLine);
            last = endLine;
          }
        }
        assert.ok(last <= text.split("\n").length);
      } catch (error) {
        assert.ok(error instanceof DockerfileError, `${JSON.stringify(text)}: ${error}`);
        assert.ok(error.startLine >= 1 && error.startLine <= error.endLine);
      }
    }),
    { numRuns: 3000 },
  );
});
