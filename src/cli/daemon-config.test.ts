import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseDaemonConfig } from "./daemon-config.ts";

const parse = (text: string): ReturnType<typeof parseDaemonConfig> =>
  parseDaemonConfig(Buffer.from(text), "/etc/d.json");

describe("daemon.json", () => {
  it("says where layers are and how they are stored", () => {
    const text = `{
      "data-root": "/srv/docker/", "storage-driver": "btrfs",
      "storage-opts": ["btrfs.min_space = 1G", "dm.mkfsarg=-O a=b"]
    }`;
    assert.deepEqual(parse(text), {
      root: "/srv/docker/lamella",
      driver: "btrfs",
      driverOptions: { "btrfs.min_space": "1G", "dm.mkfsarg": "-O a=b" },
      notes: [],
    });
    assert.deepEqual(parse("{}"), { root: undefined, driver: undefined, driverOptions: {}, notes: [] });
  });

  it("notes what it does not heed", () => {
    const { root, notes } = parse('{"graph": "/old", "log-driver": "none", "features": {"buildkit": true}}');
    assert.equal(root, "/old/lamella");
    assert.deepEqual(notes, [
      "/etc/d.json: graph is the old name of data-root",
      "/etc/d.json: not heeded: log-driver, features",
    ]);
  });

  it("names the file and the place of what is wrong", () => {
    assert.throws(
      () => parse('{\n "data-root": "/a"\n "graph": "/b"}'),
      /^LamellaError: \/etc\/d\.json: .* \(line 3\)$/,
    );
    assert.throws(() => parse('{"storage-driver"'), /\/etc\/d\.json: expected ':' \(line 1\)/);
    assert.throws(() => parse("[]"), /\/etc\/d\.json: the file is not a JSON object/);
    assert.throws(() => parse('{"storage-driver": 1}'), /storage-driver is not a string/);
    assert.throws(() => parse('{"storage-opts": "a=b"}'), /storage-opts is not a list of strings/);
    assert.throws(() => parse('{"storage-opts": ["a"]}'), /d\.json: unable to parse storage-opt key\/value: a$/);
  });
});
