/**
 * Whatever a layer says, whiteouts in an overlay and deletions carried out in a full copy must give the same merged tree;
 * and a plain tar must give the tree that GNU tar makes of it.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { textOfBytes } from "../../src/lib/bytes.ts";
import { describeTree, type Item, isInitialUserns, Layers, Playground, tarOf } from "./layers-fixtures.ts";

const component = fc.constantFrom("a", "b", "c");
const path = fc.array(component, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const oddPath = fc.oneof(
  { weight: 8, arbitrary: path },
  fc
    .array(fc.constantFrom("a", "b", "..", ".", ""), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join("/").replace(/\/+$/, "") || "."),
);
const metadata = fc.record({
  mode: fc.constantFrom(0o755, 0o700, 0o4755, 0o2775, 0o1777, 0o500),
  mtimeSec: fc.integer({ min: 1, max: 1_700_000_000 }),
  mtimeNsec: fc.integer({ min: 0, max: 999_999_999 }),
  uid: fc.constantFrom(0, 0, isInitialUserns ? 1000 : 0),
  gid: fc.constantFrom(0, 0, isInitialUserns ? 50 : 0),
});
const xattrs = fc.constantFrom(undefined, undefined, new Map([["user.x", Buffer.from("1")]]));

const entry: fc.Arbitrary<Item> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(oddPath, metadata, xattrs, fc.string({ maxLength: 5 }))
      .map(([name, more, x, data]): Item => ({ ...more, name, type: "file", xattrs: x, data })),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(oddPath, metadata, xattrs)
      .map(([name, more, x]): Item => ({ ...more, name: `${name}/`, type: "directory", xattrs: x })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(path, oddPath, fc.constantFrom("", "/", "../"))
      .map(([name, to, start]): Item => ({ name, type: "symlink", linkName: start + to || "a" })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(path, path).map(([name, linkName]): Item => ({ name, type: "hardlink", linkName })),
  },
  { weight: 1, arbitrary: fc.tuple(path, metadata).map(([name, more]): Item => ({ ...more, name, type: "fifo" })) },
  { weight: 4, arbitrary: path.map((name): Item => ({ name: name.replace(/[^/]*$/, ".wh.$&"), type: "file" })) },
  {
    weight: 2,
    arbitrary: fc
      .oneof(
        path.map((name) => `${name}/`),
        fc.constant(""),
      )
      .map((name): Item => ({ name: `${name}.wh..wh..opq`, type: "file" })),
  },
);

test("overlay and in-place targets give the same merged tree", () => {
  using ground = new Playground();
  fc.assert(
    fc.property(fc.array(fc.array(entry, { maxLength: 12 }), { minLength: 1, maxLength: 4 }), (layers) => {
      using overlay = new Layers(ground, "overlay");
      using inPlace = new Layers(ground, "remove");
      for (const entries of layers) {
        const tar = tarOf(...entries);
        const failed = [overlay, inPlace].map((target) => {
          try {
            target.apply(tar);
            return undefined;
          } catch (error) {
            if (!(error instanceof LamellaError)) throw error;
            return error.code;
          }
        });
        assert.equal(failed[0], failed[1]);
        if (failed[0] !== undefined) return;
        assert.deepEqual(Object.fromEntries(overlay.tree()), Object.fromEntries(inPlace.tree()));
      }
    }),
    { numRuns: Number(process.env.LAMELLA_TEST_RUNS ?? 400) },
  );
});

test("however the stream is cut, the tree is the same", () => {
  using ground = new Playground();
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), fc.integer({ min: 1, max: 1500 }), (entries, chunkBytes) => {
      const results = [65_536, chunkBytes].map((size) => {
        using layers = new Layers(ground, "overlay");
        try {
          layers.apply(tarOf(...entries), size);
          return Object.fromEntries(layers.tree());
        } catch (error) {
          return error instanceof LamellaError ? error.code : error;
        }
      });
      assert.deepEqual(results[0], results[1]);
    }),
    { numRuns: 60 },
  );
});

test("a plain tar gives the tree that GNU tar makes of it", () => {
  using ground = new Playground();
  const tree = fc
    .uniqueArray(fc.tuple(path, fc.constantFrom("file", "directory", "symlink", "fifo"), metadata, xattrs), {
      selector: ([name]) => name,
      maxLength: 15,
    })
    .map((list) => {
      // Nothing lies below what is no directory: there GNU tar fails and Lamella lets the later entry win.
      const leaves = list.filter(([, type]) => type !== "directory").map(([name]) => `${name}/`);
      return list.filter(([name]) => !leaves.some((leaf) => name.startsWith(leaf)));
    });
  fc.assert(
    fc.property(tree, (list) => {
      const parents = [
        ...new Set(
          list.flatMap(([name]) =>
            name
              .split("/")
              .slice(0, -1)
              .map((_, i) =>
                name
                  .split("/")
                  .slice(0, i + 1)
                  .join("/"),
              ),
          ),
        ),
      ];
      const implied = parents.filter((name) => !list.some(([other]) => other === name));
      // GNU tar restores a directory's time when it first leaves it, so that entries must come in the order of the tree.
      const all = [
        ...list,
        ...implied.map((name) => [name, "directory", { mode: 0o755, mtimeSec: 5 }, undefined] as const),
      ].sort(([a], [b]) => (a < b ? -1 : 1));
      const entries = all.map(
        ([name, type, more, x]): Item => ({
          ...more,
          name,
          type,
          ...(type === "file" ? { data: `of ${name}` } : {}),
          ...(type === "symlink" ? { linkName: "a/b" } : { xattrs: type === "fifo" ? undefined : x }),
        }),
      );
      const tar = tarOf(...entries);
      using layers = new Layers(ground, "overlay");
      layers.apply(tar);
      const gnu = ground.dir();
      const tarPath = `${ground.dir()}/t.tar`;
      writeFileSync(tarPath, tar);
      execFileSync("tar", ["--xattrs", "--xattrs-include=*", "-xpf", tarPath, "-C", textOfBytes(gnu)]);
      const withoutRoot = (described: ReturnType<typeof describeTree>) => {
        described.delete("");
        return Object.fromEntries(described);
      };
      assert.deepEqual(withoutRoot(layers.tree()), withoutRoot(describeTree(gnu)));
    }),
    { numRuns: 60 },
  );
});
