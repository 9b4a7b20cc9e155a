// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles have variables of their own.
/** The cross-building Go file that a builder has to understand whole: parsed, then expanded as a build would. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { expandInstruction, runScriptOf } from "./expand-instruction.ts";
import { parseDockerfile } from "./parse.ts";

const text = readFileSync(new URL("fixtures/go-cross-build.Dockerfile", import.meta.url), "utf8");

test("the Go cross build parses into its two stages", () => {
  const { globalArgs, stages, directives } = parseDockerfile(text);
  assert.equal(directives.syntax, undefined);
  assert.deepEqual(
    globalArgs.flatMap(({ args }) => args.map(({ name }) => name)),
    ["BUILD_IMAGE", "BASE_IMAGE"],
  );
  assert.deepEqual(
    stages.map(({ index, base, name, platform }) => ({ index, base, name, platform })),
    [
      { index: 0, base: "${BUILD_IMAGE}", name: "builder", platform: "${BUILDPLATFORM:-linux/amd64}" },
      { index: 1, base: "${BASE_IMAGE}", name: undefined, platform: undefined },
    ],
  );
  assert.equal(stages[0]?.from.asKeyword, "as");
  assert.deepEqual(
    stages[0]?.instructions.map(({ kind }) => kind).join(" "),
    "workdir arg env arg env arg env arg env arg env copy copy copy copy run",
  );
  const [copy, user, entrypoint] = stages[1]?.instructions ?? [];
  assert.ok(copy?.kind === "copy" && user?.kind === "user" && entrypoint?.kind === "entrypoint");
  assert.equal(copy.from, "builder");
  assert.equal(user.user, "65532:65532");
  assert.deepEqual(entrypoint.command, { form: "exec", argv: ["/manager"] });
});

test("its variables come out as Docker's do, with and without platform arguments", () => {
  const { globalArgs, stages } = parseDockerfile(text);
  const build = (predefined: Record<string, string>) => {
    const env = new Map<string, string>();
    const scope = new Map<string, string>();
    for (const { args } of globalArgs) for (const { name, value } of args) scope.set(name, value ?? "");
    const [builder] = stages;
    assert.ok(builder);
    const from = expandInstruction(builder.from, (name) => scope.get(name) ?? predefined[name]);
    const args = new Map<string, string>();
    const lookup = (name: string) => env.get(name) ?? args.get(name);
    for (const raw of builder.instructions) {
      const instruction = expandInstruction(raw, lookup);
      if (instruction.kind === "env") for (const { name, value } of instruction.pairs) env.set(name, value);
      if (instruction.kind !== "arg") continue;
      for (const { name, value } of instruction.args) {
        const given = predefined[name] ?? value;
        if (given !== undefined) args.set(name, given);
      }
    }
    return { image: from.image, platform: from.platform, env: Object.fromEntries(env) };
  };

  assert.deepEqual(build({}), {
    image: "golang:1.22",
    platform: "linux/amd64",
    env: { ARCH: "amd64", OS: "linux", VERSION: "dev", LDFLAGS: "-s -w -X main.version=dev", CGO_ENABLED: "0" },
  });
  assert.deepEqual(
    build({ TARGETARCH: "arm64", TARGETOS: "linux", BUILDPLATFORM: "linux/riscv64", TARGETVERSION: "v1.2" }),
    {
      image: "golang:1.22",
      platform: "linux/riscv64",
      env: { ARCH: "arm64", OS: "linux", VERSION: "v1.2", LDFLAGS: "-s -w -X main.version=v1.2", CGO_ENABLED: "0" },
    },
  );
});

test("its RUN keeps the assignments before the command, unexpanded, with its lines", () => {
  const run = parseDockerfile(text).stages[0]?.instructions.at(-1);
  assert.ok(run?.kind === "run");
  const lines = text.split("\n");
  assert.equal(lines[run.startLine - 1], "RUN CGO_ENABLED=${CGO_ENABLED} \\");
  assert.equal(lines[run.endLine - 1]?.trim(), 'go build -ldflags "${LDFLAGS}" -o /out/manager ./cmd/manager');
  assert.deepEqual(runScriptOf(expandInstruction(run, () => "no")), {
    kind: "shell",
    text:
      "CGO_ENABLED=${CGO_ENABLED}     GOOS=${OS}     GOARCH=${ARCH}     GO111MODULE=on " +
      '    go build -ldflags "${LDFLAGS}" -o /out/manager ./cmd/manager',
  });
});
