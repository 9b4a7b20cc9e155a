import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseInstruction } from "../dockerfile/index.ts";
import { GlobalArgs, platformArgs } from "./build-args.ts";
import { goDuration, goQuote, goQuoteList, goQuoteRune } from "./go-format.ts";
import { parseRunMount } from "./run-mounts.ts";
import {
  applyMetadata,
  cleanPath,
  destinationOf,
  type MetadataInstruction,
  nopHistory,
  stageConfigOf,
  workdirOf,
} from "./stage-config.ts";

function apply(...lines: string[]) {
  let state = stageConfigOf(undefined, undefined);
  const comments: string[] = [];
  for (const line of lines) {
    const { next, comment } = applyMetadata(state, parseInstruction(line) as MetadataInstruction);
    state = next;
    comments.push(nopHistory(state.config, comment));
  }
  return { state, comments, config: state.config };
}

test("history lines are Docker's", () => {
  const { comments } = apply(
    'CMD ["sh", "-c", "a \\"b\\""]',
    "CMD echo hi",
    "EXPOSE 80 53/udp",
    "VOLUME /a /b",
    "HEALTHCHECK --interval=5m --timeout=3s --retries=3 CMD curl -f http://localhost/ || exit 1",
    "ONBUILD RUN x",
    'SHELL ["/bin/bash", "-ec"]',
    "USER bob",
  );
  assert.deepEqual(comments, [
    '/bin/sh -c #(nop)  CMD ["sh" "-c" "a \\"b\\""]',
    '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo hi"]',
    "/bin/sh -c #(nop)  EXPOSE 53/udp 80",
    "/bin/sh -c #(nop)  VOLUME [/a /b]",
    '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "curl -f http://localhost/ || exit 1"] "5m0s" "3s" "0s" \'\\x03\'}',
    "/bin/sh -c #(nop)  ONBUILD RUN x",
    "/bin/bash -ec #(nop)  SHELL [/bin/bash -ec]",
    "/bin/bash -ec #(nop)  USER bob",
  ]);
});

test("ENTRYPOINT drops an inherited CMD and keeps the stage's own", () => {
  const inherited = stageConfigOf({ Cmd: ["old"] }, undefined);
  const entry = parseInstruction('ENTRYPOINT ["e"]') as MetadataInstruction;
  assert.equal(applyMetadata(inherited, entry).next.config.Cmd, undefined);
  assert.deepEqual(apply('CMD ["own"]', 'ENTRYPOINT ["e"]').config.Cmd, ["own"]);
});

test("ENV replaces in place, PATH is always there", () => {
  const { config } = apply("ENV A=1 B=2", "ENV A=3");
  assert.deepEqual(config.Env?.slice(1), ["A=3", "B=2"]);
  assert.match(config.Env?.[0] ?? "", /^PATH=\/usr\/local\/sbin:/);
});

test("paths", () => {
  const at = { WorkingDir: "/w" };
  assert.equal(workdirOf(at, "x/../y"), "/w/y");
  assert.equal(workdirOf(at, "/abs/"), "/abs/");
  assert.throws(() => workdirOf(at, ""), { code: "EMPTY_WORKDIR" });
  assert.equal(destinationOf(at, "."), "/w/");
  assert.equal(destinationOf(at, "f"), "/w/f");
  assert.equal(destinationOf(at, "/"), "/");
  assert.equal(destinationOf(at, "../../../up/"), "/up/");
  fc.assert(
    fc.property(fc.array(fc.constantFrom("a", "..", ".", "", "b")), (parts) => {
      const clean = cleanPath(`/${parts.join("/")}`);
      assert.equal(cleanPath(clean), clean);
      assert.ok(!clean.split("/").some((part) => part === ".." || part === "."));
    }),
  );
});

test("Go's formats", () => {
  assert.equal(goQuote('a"\\\n\u0001é'), '"a\\"\\\\\\n\\x01é"');
  assert.equal(goQuoteList(["a", "b c"]), '["a" "b c"]');
  assert.equal(goQuoteRune(0), "'\\x00'");
  assert.equal(goQuoteRune(48), "'0'");
  const table: Record<string, number> = { "0s": 0, "1.5s": 1.5e9, "5m0s": 300e9, "1h1m1s": 3661e9, "250ms": 250e6 };
  for (const [text, ns] of Object.entries(table)) assert.equal(goDuration(ns), text);
});

test("build arguments: global, declared, given, predefined, proxies", () => {
  const platform = { os: "linux", architecture: "arm64" };
  const globals = new GlobalArgs(
    new Map([
      ["GIVEN", "g"],
      ["HTTP_PROXY", "p"],
      ["STRAY", "s"],
    ]),
    platformArgs(platform, { os: "linux", architecture: "amd64" }),
  );
  globals.declare(parseInstruction("ARG BASE=one") as never);
  assert.equal(globals.lookup("BASE"), "one");
  assert.equal(globals.lookup("TARGETPLATFORM"), "linux/arm64");
  const stage = globals.stage();
  assert.equal(stage.lookup("BASE"), undefined);
  assert.equal(stage.lookup("TARGETARCH"), undefined);
  stage.declare(parseInstruction("ARG BASE TARGETARCH GIVEN=default HERE=h") as never);
  assert.equal(stage.lookup("TARGETARCH"), "arm64");
  assert.deepEqual(stage.forRun(["HERE=env"]), {
    env: ["BASE=one", "GIVEN=g", "HTTP_PROXY=p", "TARGETARCH=arm64"],
    recorded: ["BASE=one", "GIVEN=g", "TARGETARCH=arm64"],
  });
  assert.deepEqual(globals.unused(), ["STRAY"]);
  assert.deepEqual(globals.stage().forRun([]).recorded, []);
});

test("--mount", () => {
  assert.deepEqual(parseRunMount("type=tmpfs,dst=t,size=2k", "/w"), { type: "tmpfs", target: "/w/t", sizeBytes: 2048 });
  assert.deepEqual(parseRunMount("source=a,target=/b,ro", "/"), {
    type: "bind",
    from: undefined,
    source: "a",
    target: "/b",
  });
  assert.equal(parseRunMount("type=secret,id=x", "/").target, "/run/secrets/x");
  assert.throws(() => parseRunMount("type=cache", "/"), { code: "BAD_MOUNT" });
  assert.throws(() => parseRunMount("type=bind,target=/x,rw", "/"), { code: "BAD_MOUNT" });
});
