/**
 * Bundles the command lines into dist/cli/main.js and dist/cli/lamella-overlay.js, and the code of each worker thread into one file in the place tsc gave it.
 * Node.js starts one file a quarter faster than the seventy of dist/src that `lamella info` needs, a thread several times.
 *
 * A module that finds files by its own place (`import.meta.url`) is told the place tsc gave it, whatever bundle it is in.
 */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const project = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where tsc puts what it makes of a source file. */
const compiled = (source) => join(project, "dist", relative(project, source).replace(/\.ts$/, ".js"));

/** @type {(outdir: string) => import("esbuild").Plugin} */
const keepPlaces = (outdir) => ({
  name: "keep-places",
  setup(bundle) {
    bundle.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      if (!text.includes("import.meta.url")) return undefined;
      const place = `./${relative(outdir, compiled(path))}`;
      return {
        contents: text.replaceAll("import.meta.url", `new URL("${place}", import.meta.url).href`),
        loader: "ts",
      };
    });
  },
});

/** @type {(source: string, outfile: string, banner?: string) => Promise<unknown>} */
const bundle = (source, outfile, banner = "") =>
  build({
    entryPoints: [source],
    outfile,
    bundle: true,
    minifyWhitespace: true,
    minifySyntax: true,
    // Names stay as they are: `keepNames` would define each function's again whenever one is made, in every request.
    format: "esm",
    platform: "node",
    // Node 20 has no `using`; what is kept here of it is lowered.
    target: "node20.19",
    sourcemap: true,
    allowOverwrite: true,
    external: ["koffi", "lmdb"],
    plugins: [keepPlaces(dirname(outfile))],
    banner: {
      js: `${banner}import{createRequire as requireFor}from"node:module";const require=requireFor(import.meta.url);`,
    },
  });

const threads = readdirSync(join(project, "src"), { recursive: true })
  .filter((path) => /(?:-worker|\/pid-init)\.ts$/.test(path))
  .map((path) => join(project, "src", path));

rmSync(join(project, "dist/cli"), { recursive: true, force: true });
await Promise.all([
  bundle(
    join(project, "src/cli/main.ts"),
    join(project, "dist/cli/main.js"),
    "/* Contains commander (MIT, https://github.com/tj/commander.js), diff (BSD-3-Clause, https://github.com/kpdecker/jsdiff) and pprof-format (MIT, https://github.com/DataDog/pprof-format). */\n",
  ),
  bundle(join(project, "src/cli/lamella-overlay.ts"), join(project, "dist/cli/lamella-overlay.js")),
  ...threads.map((source) => bundle(source, compiled(source))),
]);
