/**
 * The disk with the project: its sources as JavaScript in the places the TypeScript has in the repository, and the packages
 * they need. Made anew for every run, which takes a second or two; compiling in the machine would take minutes.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { makeDisk } from "./disk.ts";

const root = join(import.meta.dirname, "../..");

/** Packages that the tests need beside the dependencies of the project itself. */
const testPackages = ["fast-check", "pure-rand"];

/** Makes the disk at `path`, with `staging` as the directory to gather its files in. */
export async function makeProjectDisk(path: string, staging: string): Promise<void> {
  mkdirSync(staging);
  await compile(staging);
  cpSync(join(root, "package.json"), join(staging, "package.json"));
  // Tests preload it for the processes they start; here there is no TypeScript to register for.
  writeFileSync(join(staging, "test/register.mjs"), "");
  copyPackages(staging);
  makeDisk(staging, path, 1024);
}

async function compile(staging: string): Promise<void> {
  const sources = ["src", "test"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts"))
      .map((path) => join(root, folder, path)),
  );
  await build({
    entryPoints: sources,
    outdir: staging,
    outbase: root,
    format: "esm",
    platform: "node",
    target: "node20.19",
    sourcemap: "external",
    plugins: [
      {
        name: "name-the-compiled-files",
        setup: ({ onLoad }) =>
          // Specifiers of imports, and the names of programs that tests start.
          onLoad({ filter: /\.ts$/ }, ({ path: source }) => ({
            contents: readFileSync(source, "utf8").replace(/"(\.\.?\/[^"]*)\.ts"/g, '"$1.js"'),
            loader: "ts",
          })),
      },
    ],
  });
}

/** Copies what package-lock.json does not call a development package. */
function copyPackages(staging: string): void {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
  };
  const modules = realpathSync(join(root, "node_modules"));
  const tests = new Set(testPackages.map((name) => `node_modules/${name}`));
  for (const [path, { dev }] of Object.entries(lock.packages)) {
    if (path === "" || (dev && !tests.has(path))) continue;
    const source = join(dirname(modules), path);
    if (existsSync(source)) cpSync(source, join(staging, path), { recursive: true, verbatimSymlinks: true });
  }
}
