import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import {
  checkLayersMatch,
  configTime,
  encodeConfig,
  type ImageConfig,
  parseConfig,
  platformOfConfig,
} from "./config.ts";
import { digestOf, parseDiffId } from "./digest.ts";

const diff = parseDiffId(digestOf("a"));
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const minimal = { architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [diff] } };
const invalid = (error: unknown) => isLamellaError(error, "invalid_argument");

test("the encoding has Docker's order: top level sorted, the inner struct's own, maps sorted", () => {
  const config: ImageConfig = {
    variant: "v7",
    rootfs: { type: "layers", diff_ids: [diff] },
    os: "linux",
    history: [
      { empty_layer: true, created_by: '/bin/sh -c #(nop)  CMD ["sh"]', created: "2024-01-02T03:04:05.000000006Z" },
    ],
    created: "2024-01-02T03:04:05Z",
    config: {
      Shell: ["/bin/sh", "-c"],
      Labels: { b: "2", a: "<1>" },
      Cmd: ["sh"],
      Volumes: ["/v"],
      ExposedPorts: ["80/tcp", "53/udp"],
      Env: ["A=1"],
      User: "65532:65532",
      Healthcheck: { Retries: 3, Interval: 1_000_000_000, Test: ["NONE"] },
    },
    architecture: "arm",
  };
  const encoded = encodeConfig(config);
  assert.equal(
    encoded.toString(),
    '{"architecture":"arm","config":{"User":"65532:65532","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["A=1"],' +
      '"Cmd":["sh"],"Healthcheck":{"Test":["NONE"],"Interval":1000000000,"Retries":3},"Volumes":{"/v":{}},' +
      '"Labels":{"a":"\\u003c1\\u003e","b":"2"},"Shell":["/bin/sh","-c"]},"created":"2024-01-02T03:04:05Z",' +
      '"history":[{"created":"2024-01-02T03:04:05.000000006Z","created_by":"/bin/sh -c #(nop)  CMD [\\"sh\\"]","empty_layer":true}],' +
      `"os":"linux","rootfs":{"type":"layers","diff_ids":["${diff}"]},"variant":"v7"}`,
  );
  assert.deepEqual(encodeConfig(parseConfig(encoded)), encoded);
  assert.deepEqual(platformOfConfig(config), { architecture: "arm", os: "linux", variant: "v7" });
});

test("Docker's nulls read as absent, its own members are kept", () => {
  const config = parseConfig(
    bytes({
      ...minimal,
      config: {
        Hostname: "",
        AttachStdin: false,
        Env: null,
        Cmd: null,
        Volumes: null,
        Labels: null,
        Image: "sha256:x",
      },
      container_config: { Hostname: "h", Anything: [1] },
      docker_version: "20.10",
      history: null,
      unknown: { a: 1 },
    }),
  );
  assert.deepEqual({ ...config.config }, { Hostname: "", AttachStdin: false, Image: "sha256:x" });
  assert.equal(JSON.stringify(config.container_config), '{"Hostname":"h","Anything":[1]}');
  assert.equal(config.docker_version, "20.10");
  assert.equal("history" in config, false);
});

test("encoding and parsing again gives the same bytes", () => {
  const text = fc.string({ unit: "grapheme" });
  const run = fc.record(
    {
      User: text,
      Env: fc.array(text),
      Cmd: fc.array(text),
      ExposedPorts: fc.uniqueArray(text),
      Labels: fc.dictionary(text, text),
      StopTimeout: fc.nat(),
      Tty: fc.boolean(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(run, (config) => {
      const encoded = encodeConfig({ ...minimal, rootfs: { type: "layers", diff_ids: [diff] }, config });
      assert.deepEqual(encodeConfig(parseConfig(encoded)), encoded);
    }),
  );
});

test("malformed configs are refused, naming the member", () => {
  const table: [unknown, RegExp][] = [
    [{ architecture: "amd64", os: "linux" }, /rootfs: missing/],
    [{ ...minimal, rootfs: { type: "layers", diff_ids: ["sha256:../../x"] } }, /diff ID/],
    [{ ...minimal, rootfs: { type: "other", diff_ids: [] } }, /rootfs\.type/],
    [{ ...minimal, config: { Env: ["A", 1] } }, /config\.Env/],
    [{ ...minimal, config: { Env: "A" } }, /config\.Env/],
    [{ ...minimal, config: { Labels: { a: 1 } } }, /config\.Labels/],
    [{ ...minimal, config: { Volumes: ["/v"] } }, /config\.Volumes/],
    [{ ...minimal, created: "yesterday" }, /created/],
    [{ ...minimal, history: [{}, { created: 1 }] }, /history\[1\]\.created/],
    [[], /expected an object/],
  ];
  for (const [document, message] of table) {
    assert.throws(() => parseConfig(bytes(document)), message);
    assert.throws(() => parseConfig(bytes(document)), invalid);
  }
});

test("H46 more or fewer diff IDs than layers", () => {
  const config = parseConfig(bytes({ ...minimal, history: [{}, { empty_layer: true }] }));
  checkLayersMatch(config, ["layer"]);
  assert.throws(() => checkLayersMatch(config, []), /1 diff IDs for 0 layers/);
  assert.throws(() => checkLayersMatch(config, ["a", "b"]), invalid);
  assert.throws(() => checkLayersMatch({ ...config, history: [{}, {}] }, ["layer"]), /history/);
});

test("times have no zeros at their end, as Go writes them", () => {
  const at = (ms: number) => configTime(new Date(Date.UTC(2024, 0, 2, 3, 4, 10, ms)));
  assert.equal(at(0), "2024-01-02T03:04:10Z");
  assert.equal(at(500), "2024-01-02T03:04:10.5Z");
  assert.equal(at(20), "2024-01-02T03:04:10.02Z");
  assert.equal(at(123), "2024-01-02T03:04:10.123Z");
});
