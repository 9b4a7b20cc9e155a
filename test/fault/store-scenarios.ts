/** What the crash tests do, and how the states before and after are told. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { build } from "../../src/build/builder.ts";
import type { Store } from "../../src/store/store.ts";
import { busyboxMissing, makeBusyboxRoot } from "../support/busybox-root.ts";
import { commitChange, makeTree } from "./store-fixtures.ts";

export interface Scenario {
  /** Makes the state the crash happens in. */
  readonly prepare: (store: Store, fixtures: string) => Promise<void>;
  /** What is interrupted. */
  readonly run: (store: Store, fixtures: string) => Promise<unknown>;
  /** Why it cannot be done on this machine. */
  readonly missing?: string | undefined;
}

const nothing = async (): Promise<void> => {};

async function base(store: Store, fixtures: string): Promise<void> {
  await store.importRoot({ kind: "directory", path: join(fixtures, "tree") }, { tags: ["base:1"] });
}

export const scenarios: Readonly<Record<string, Scenario>> = {
  import: { prepare: nothing, run: base },
  "load-docker": {
    prepare: base,
    run: (store, fixtures) => store.load({ path: join(fixtures, "docker-archive.tar") }),
  },
  "load-oci-compressed": {
    prepare: nothing,
    run: (store, fixtures) => store.load({ path: join(fixtures, "oci-archive.tar.gz") }),
  },
  build: {
    missing: busyboxMissing(),
    prepare: async (store, fixtures) => {
      const root = join(fixtures, "busybox");
      if (!existsSync(root)) makeBusyboxRoot(root);
      await store.importRoot({ kind: "directory", path: root }, { tags: ["box:1"] });
    },
    run: (store, fixtures) =>
      build({
        store,
        context: fixtures,
        dockerfile: "FROM box:1\nCOPY tree /tree\nRUN mv /tree /moved\nENV A=1\nRUN echo x > /moved/x && rm -r /home\n",
        tags: ["built:1"],
        threads: { searchPath: ["/usr/sbin", "/usr/bin", "/sbin", "/bin"], engine: "builtin" },
      }),
  },
  create: { prepare: base, run: (store) => store.createContainer({ image: "base:1", name: "box" }) },
  commit: {
    prepare: async (store, fixtures) => {
      await base(store, fixtures);
      const container = await store.createContainer({ image: "base:1", name: "box" });
      await using mounted = await store.driver.mount(container.layerId);
      makeTree(join(mounted.path, "more"), "more");
    },
    run: (store) => store.commitContainer("box", { tags: ["base:2"] }),
  },
  rm: {
    prepare: async (store, fixtures) => {
      await base(store, fixtures);
      await store.createContainer({ image: "base:1", name: "box" });
    },
    run: (store) => store.removeContainer("box"),
  },
  rmi: {
    prepare: async (store, fixtures) => {
      await base(store, fixtures);
      await commitChange(store, "base:1", "base:2", "a");
      await commitChange(store, "base:2", "base:3", "b");
      await store.removeImage("base:2");
      await store.removeImage("base:1");
    },
    run: (store) => store.removeImage("base:3"),
  },
  gc: {
    prepare: async (store, fixtures) => {
      await base(store, fixtures);
      await commitChange(store, "base:1", "base:2", "a");
      const image = store.image("base:2");
      await store.publish({ cache: [{ key: "step", chainId: image.chainId }] });
      await store.removeImage("base:2");
      await store.removeImage("base:1");
    },
    run: (store) => store.gc({ cacheMaxAgeMs: 0 }),
  },
  // Opening is all there is to it.
  reclaim: { prepare: nothing, run: nothing },
  // Two processes' worth of the same chain: the second publisher drops his layers and moves what stands on them.
  duplicate: {
    prepare: base,
    run: async (store) => {
      const first = await store.beginLayer(undefined);
      makeTree(await treeOf(store, first.layerId), "same");
      const second = await store.beginLayer(undefined);
      makeTree(await treeOf(store, second.layerId), "same");
      const a = store.sealLayer(first, { clampMtimeSec: 1 });
      const b = store.sealLayer(second, { clampMtimeSec: 1 });
      const { chainId } = await a.done;
      await store.publish({ layers: [a], cache: [{ key: "a", chainId }] });
      const top = await store.beginLayer(b);
      const sealed = store.sealLayer(top);
      const done = await sealed.done;
      await store.publish({ layers: [b, sealed], cache: [{ key: "b", chainId: done.chainId }] });
    },
  },
};

/** Where a layer's files can be written without a mount. */
async function treeOf(store: Store, layerId: Parameters<Store["driver"]["applyTarget"]>[0]): Promise<string> {
  return (await store.driver.applyTarget(layerId)).value.root;
}
