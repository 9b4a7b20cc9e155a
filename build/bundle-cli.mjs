/**
 * Bundles the command line into one file, dist/cli/main.js. Node.js starts it a quarter faster than the seventy files of
 * dist/src that `lamella info` needs.
 *
 * What starts worker threads, and the error types that both sides share, stay where tsc put them, in dist/src.
 */
import { rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const project = dirname(dirname(fileURLToPath(import.meta.url)));
const outdir = join(project, "dist/cli");

/** Modules of which the process must have one copy, and those that find their worker files by their own place. */
const apart = /^src\/(?:errors\/|engine\/engine\.ts$)/;

/** @type {import("esbuild").Plugin} */
const leaveApart = {
  name: "leave-apart",
  setup(bundle) {
    bundle.onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, resolveDir }) => {
      const source = relative(project, join(resolveDir, path));
      if (!apart.test(source)) return undefined;
      return { path: `../${source.replace(/\.ts$/, ".js")}`, external: true };
    });
  },
};

rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: [join(project, "src/cli/main.ts")],
  outdir,
  bundle: true,
  splitting: false,
  minify: true,
  format: "esm",
  platform: "node",
  // Node 20 has no `using`; what is kept here of it is lowered.
  target: "node20.19",
  sourcemap: true,
  external: ["koffi", "lmdb"],
  plugins: [leaveApart],
  banner: {
    js:
      "/* Contains commander (MIT, https://github.com/tj/commander.js). */\n" +
      'import{createRequire}from"node:module";const require=createRequire(import.meta.url);',
  },
});
