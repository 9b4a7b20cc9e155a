/**
 * Makes a small root file system from the files of this machine: a shell, the common tools, and just the libraries they
 * load, found by reading their ELF headers. Nothing is downloaded. Works on glibc and musl systems, with separate tools
 * or one multi-call binary (busybox and the like), merged /usr or not.
 *
 * By itself:  node examples/base-image.mjs DIRECTORY [ENTRIES]
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { readElf } from "./elf.mjs";

/** Tools an image cannot do without here, and those that are welcome. */
const requiredTools = "sh cat chmod chown cp echo ls mkdir mv pwd rm sleep touch true uname wc".split(" ");
const welcomeTools =
  "basename cut date dirname env expr false find grep head hostname id ln printf ps rmdir sed sort stat tail tar tr".split(
    " ",
  );

/** Where an image's own PATH looks. */
const standardPath = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/** Where the data comes from that gives the base a realistic size, taken in this order until there is enough. */
const dataSources = ["/usr/share/zoneinfo", "/usr/share/doc", "/usr/include", "/usr/share/locale", "/usr/share/perl5"];

/** What the data becomes in the image: a directory of at most so many entries each. */
const dataDirectories = [
  { path: "/data/catalogue", most: 300 },
  { path: "/data/obsolete", most: 1000 },
  { path: "/data/archive", most: Number.POSITIVE_INFINITY },
];

/** Larger files of data only cost time here. */
const maxDataFileBytes = 200_000;

/**
 * Makes the root in `root`, which must not exist or be empty. `entries` is roughly how many objects it gets in all;
 * `moreData` are directories to take data from when the machine's usual ones do not suffice.
 *
 * @param {{ root: string, entries?: number, moreData?: readonly string[] }} options
 * @returns {{ entries: number, bytes: number, tools: string[], libraries: string[] }}
 */
export function makeBaseImage({ root, entries = 8000, moreData = [] }) {
  const tree = new Tree(root);
  for (const path of ["/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/usr", "/usr/bin", "/var"]) {
    tree.directory(path);
  }
  // Where /usr is merged, /bin and the like are symbolic links.
  for (const path of ["/bin", "/sbin", "/lib", "/lib64"]) if (existsSync(path)) tree.add(path);
  const closure = new Closure(tree);
  /** @type {string[]} */
  const tools = [];
  for (const tool of [...requiredTools, ...welcomeTools]) {
    const path = findTool(tool);
    if (path === undefined) {
      if (requiredTools.includes(tool)) throw new Error(`this machine has no ${tool} in its PATH`);
      continue;
    }
    closure.program(path);
    if (!standardPath.includes(dirname(path))) tree.link(`/usr/bin/${tool}`, path);
    tools.push(tool);
  }
  if (!existsSync(join(root, "bin/sh"))) tree.directory("/bin");
  if (!existsSync(join(root, "bin/sh"))) tree.link("/bin/sh", /** @type {string} */ (findTool("sh")));
  writeSystemFiles(tree);

  tree.directory("/data");
  for (const { path, most } of dataDirectories) {
    const limit = Math.min(entries, tree.entries + most);
    tree.directory(path);
    for (const source of [...dataSources, ...moreData]) tree.copyAll(source, `${path}/${basename(source)}`, limit);
  }
  return { entries: tree.entries, bytes: tree.bytes, tools, libraries: [...closure.libraries].sort() };
}

/**
 * The path of a tool; directories an image searches come before the caller's PATH.
 * @param {string} tool
 */
function findTool(tool) {
  const directories = [...standardPath, ...(process.env.PATH ?? "").split(":").filter((d) => d.startsWith("/"))];
  for (const directory of directories) {
    const path = join(directory, tool);
    if (isProgram(path)) return path;
  }
  return undefined;
}

/** @param {string} path */
function isProgram(path) {
  try {
    return statSync(path).isFile() && readElf(path) !== undefined;
  } catch {
    return false;
  }
}

/** @param {Tree} tree */
function writeSystemFiles(tree) {
  tree.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
  tree.file("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
  tree.file("/etc/hostname", "lamella\n");
  tree.file("/etc/os-release", 'NAME="Lamella example base"\nID=lamella-example\nPRETTY_NAME="Lamella example base"\n');
  tree.directory("/tmp", 0o1777);
  tree.directory("/var/tmp", 0o1777);
}

/** A root file system being made: what is put in keeps its path, and symbolic links on the way to it come along. */
class Tree {
  entries = 0;
  bytes = 0;
  /** @type {string} */
  #root;

  /** @param {string} root */
  constructor(root) {
    this.#root = resolve(root);
    mkdirSync(this.#root, { recursive: true });
    if (readdirSync(this.#root).length > 0) throw new Error(`${root} is not empty`);
    chmodSync(this.#root, 0o755);
  }

  /**
   * Copies a file of the host, with every symbolic link its path goes through. Returns its real path.
   * @param {string} path
   */
  add(path) {
    let rest = path.split("/").filter(Boolean);
    let at = "";
    for (let links = 0; rest.length > 0; ) {
      const [name, ...others] = rest;
      const here = name === ".." ? dirname(at || "/") : `${at}/${name}`;
      rest = others;
      if (name === "." || name === "..") {
        at = name === "." ? at : here === "/" ? "" : here;
        continue;
      }
      const stat = lstatSync(here);
      if (stat.isSymbolicLink()) {
        if (++links > 40) throw new Error(`${path}: too many symbolic links`);
        const target = readlinkSync(here);
        this.link(here, target);
        rest = [...target.split("/").filter(Boolean), ...rest];
        if (target.startsWith("/")) at = "";
        continue;
      }
      if (stat.isDirectory()) this.directory(here);
      else this.#copy(here, here, stat);
      at = here;
    }
    return at;
  }

  /** @param {string} path @param {number} mode */
  directory(path, mode = 0o755) {
    const to = this.#root + path;
    if (this.#kind(to) !== undefined) return;
    mkdirSync(to);
    chmodSync(to, mode);
    this.entries++;
  }

  /** A symbolic link; what the base has there already stays, an empty directory excepted. @param {string} path @param {string} target */
  link(path, target) {
    const to = this.#root + path;
    if (this.#kind(to) === "link") return;
    if (this.#kind(to) !== undefined) throw new Error(`${path} is a link on this machine but exists in the base`);
    symlinkSync(target, to);
    this.entries++;
  }

  /** @param {string} path @param {string} text */
  file(path, text) {
    writeFileSync(this.#root + path, text);
    this.entries++;
    this.bytes += text.length;
  }

  /**
   * Copies files, directories and links below `from` until the base has `limit` entries; what cannot be read is left out.
   * @param {string} from @param {string} to @param {number} limit
   */
  copyAll(from, to, limit) {
    if (this.entries >= limit || !existsSync(from)) return;
    this.#copyTree(realpathSync(from), to, limit);
  }

  /** @param {string} from @param {string} to @param {number} limit */
  #copyTree(from, to, limit) {
    this.directory(to);
    for (const entry of readable(() => readdirSync(from, { withFileTypes: true })) ?? []) {
      if (this.entries >= limit) return;
      const [source, target] = [`${from}/${entry.name}`, `${to}/${entry.name}`];
      if (entry.isDirectory()) this.#copyTree(source, target, limit);
      else if (entry.isSymbolicLink()) this.link(target, readlinkSync(source));
      else if (entry.isFile()) {
        const stat = lstatSync(source);
        if (stat.size <= maxDataFileBytes) readable(() => this.#copy(source, target, stat));
      }
    }
  }

  /** @param {string} from @param {string} to @param {import("node:fs").Stats} stat */
  #copy(from, to, stat) {
    if (this.#kind(this.#root + to) !== undefined) return;
    copyFileSync(from, this.#root + to);
    chmodSync(this.#root + to, stat.mode & 0o755);
    this.entries++;
    this.bytes += stat.size;
  }

  /** @param {string} path */
  #kind(path) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat && (stat.isSymbolicLink() ? "link" : stat.isDirectory() ? "directory" : "file");
  }
}

/** Adds programs with all the libraries they load. */
class Closure {
  /** @type {Set<string>} */
  libraries = new Set();
  /** @type {Set<string>} */
  #done = new Set();
  #tree;

  /** @param {Tree} tree */
  constructor(tree) {
    this.#tree = tree;
  }

  /** @param {string} path */
  program(path) {
    this.#add(path, undefined, []);
  }

  /**
   * @param {string} path
   * @param {string | undefined} interpreter  the one of the program that loads this file
   * @param {readonly string[]} inherited     DT_RPATH of the files that load it
   */
  #add(path, interpreter, inherited) {
    const real = this.#tree.add(path);
    if (this.#done.has(real)) return;
    this.#done.add(real);
    const elf = readElf(real);
    if (elf === undefined) return;
    const loader = elf.interpreter ?? interpreter;
    if (elf.interpreter !== undefined) this.#library(elf.interpreter, loader, []);
    const origin = dirname(real);
    const expand = (/** @type {string[]} */ paths) =>
      paths.map((p) =>
        p
          .replace(/\$(?:ORIGIN\b|\{ORIGIN\})/g, origin)
          .replace(/\$(?:LIB\b|\{LIB\})/g, `lib${elf.bits === 64 ? "64" : ""}`),
      );
    // A DT_RUNPATH switches DT_RPATH off and serves the file's own libraries alone (ld.so(8)).
    const rpath = elf.runpath.length > 0 ? [] : [...expand(elf.rpath), ...inherited];
    const directories = [...rpath, ...expand(elf.runpath), ...systemDirectories(loader)];
    for (const name of elf.needed) {
      const found = findLibrary(name, directories, elf);
      if (found !== undefined) this.#library(found, loader, rpath);
      else if (!isOfLoader(name, loader))
        throw new Error(`${path} needs ${name}, which is in none of ${directories.join(" ")}`);
    }
  }

  /** @param {string} path @param {string | undefined} interpreter @param {readonly string[]} rpath */
  #library(path, interpreter, rpath) {
    this.libraries.add(path);
    this.#add(path, interpreter, rpath);
  }
}

/** @param {string} name @param {readonly string[]} directories @param {import("./elf.mjs").ElfNeeds} elf */
function findLibrary(name, directories, elf) {
  const candidates = name.includes("/") ? [name] : directories.map((directory) => `${directory}/${name}`);
  return candidates.find((path) => {
    // A directory may hold libraries of another architecture under the same name.
    const found = existsSync(path) ? readable(() => readElf(path)) : undefined;
    return found !== undefined && found.machine === elf.machine && found.bits === elf.bits;
  });
}

/** musl's libc lies inside its loader, under whatever name a program asks for it. @param {string} name @param {string | undefined} loader */
function isOfLoader(name, loader) {
  if (loader === undefined) return false;
  return basename(loader) === name || (loader.includes("ld-musl-") && /^libc\.(?:musl-|so)/.test(name));
}

/** @type {Map<string, string[]>} */
const directoriesOfLoader = new Map();

/**
 * Where a loader looks when a file names no directories.
 * @param {string | undefined} loader
 * @returns {string[]}
 */
function systemDirectories(loader) {
  const key = loader ?? "";
  let directories = directoriesOfLoader.get(key);
  if (directories !== undefined) return directories;
  const musl = /ld-musl-(.+)\.so/.exec(key)?.[1];
  if (musl !== undefined) {
    const listed = readable(() => readFileSync(`/etc/ld-musl-${musl}.path`, "utf8"));
    directories = (listed ?? "/lib:/usr/local/lib:/usr/lib").split(/[:\n]/).filter(Boolean);
  } else {
    const besideLoader = loader === undefined ? [] : [dirname(readable(() => realpathSync(loader)) ?? loader)];
    directories = [...ldSoConf("/etc/ld.so.conf"), "/lib64", "/usr/lib64", "/lib", "/usr/lib", ...besideLoader];
  }
  directoriesOfLoader.set(key, directories);
  return directories;
}

/**
 * The directories of an ld.so.conf and of the files it includes.
 * @param {string} path
 * @returns {string[]}
 */
function ldSoConf(path) {
  const text = readable(() => readFileSync(path, "utf8")) ?? "";
  return text.split("\n").flatMap((line) => {
    const [word = "", ...patterns] = line
      .replace(/#.*/, "")
      .trim()
      .split(/[\s,:]+/);
    if (word !== "include") return word.startsWith("/") ? [word] : [];
    return patterns.flatMap((pattern) => glob(resolve(dirname(path), pattern)).flatMap(ldSoConf));
  });
}

/** Files that match a pattern whose last part may hold `*`. @param {string} pattern */
function glob(pattern) {
  const parts = basename(pattern)
    .split("*")
    .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const matches = new RegExp(`^${parts.join(".*")}$`);
  const names = readable(() => readdirSync(dirname(pattern))) ?? [];
  return names
    .filter((name) => matches.test(name))
    .sort()
    .map((name) => join(dirname(pattern), name));
}

/**
 * The value of `read`, or undefined when this user may not read it or it is not there.
 * @template T
 * @param {() => T} read
 * @returns {T | undefined}
 */
function readable(read) {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EACCES" || code === "EPERM" || code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href) {
  const [root, most] = process.argv.slice(2);
  if (root === undefined) {
    console.error("usage: node examples/base-image.mjs DIRECTORY [ENTRIES]");
    process.exit(2);
  }
  const { entries, bytes, tools, libraries } = makeBaseImage(
    most === undefined ? { root } : { root, entries: Number(most) },
  );
  console.log(
    `${root}: ${entries} entries, ${(bytes / 1e6).toFixed(1)} MB, ${tools.length} tools, ${libraries.length} libraries`,
  );
}
