/**
 * Reads a build's Dockerfile and ignore file. A path inside the context is resolved inside it: a link that leads out, a
 * fifo or a device is refused before anything is read from it. At most 16 MiB are read.
 */
import { basename, dirname, relative, resolve } from "node:path";
import { LamellaError } from "../errors/lamella-error.ts";
import { hasCode, SyscallError } from "../errors/syscall-error.ts";
import { RootDir } from "../fs/root-dir.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { O_NONBLOCK, O_RDONLY, S_IFMT, S_IFREG } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";

const MAX_BYTES = 16 << 20;

export interface BuildFiles {
  readonly dockerfile: string;
  /** For messages. */
  readonly fileName: string;
  /** Content of the ignore file, "" when there is none. */
  readonly ignore: string;
  readonly ignoreName: string;
}

/**
 * `file`: path of the Dockerfile, default `Dockerfile` in the context; relative ones start at the context. Without a
 * Dockerfile of its own (`dockerfile` given) only the ignore file is read. Errors: not_found, failed_precondition.
 */
export function readBuildFiles(options: {
  readonly context: string;
  readonly file?: string | undefined;
  readonly dockerfile?: string | undefined;
}): BuildFiles {
  const context = resolve(options.context);
  using root = openContext(context);
  const file = resolve(context, options.file ?? "Dockerfile");
  const dockerfile = options.dockerfile ?? readInside(root, context, file);
  if (dockerfile === undefined) {
    throw new LamellaError("not_found", "NO_DOCKERFILE", `${file}: no such Dockerfile`, {
      hint: "name it with -f, or give the directory that holds it",
    });
  }
  const own = `${file}.dockerignore`;
  const ownIgnore = options.dockerfile === undefined ? readInside(root, context, own) : undefined;
  return {
    dockerfile,
    fileName: basename(file),
    ignore: ownIgnore ?? readInside(root, context, `${context}/.dockerignore`) ?? "",
    ignoreName: ownIgnore === undefined ? ".dockerignore" : basename(own),
  };
}

function openContext(context: string): RootDir {
  try {
    return RootDir.open(bytesOfText(context));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const problem = error.code === "ENOTDIR" ? "is not a directory" : `cannot be opened (${error.code})`;
    throw new LamellaError(error.kind, "NO_CONTEXT", `the build context ${context} ${problem}`, { cause: error });
  }
}

function readInside(root: RootDir, context: string, path: string): string | undefined {
  const inside = relative(context, path);
  const isInside = inside !== "" && !inside.startsWith("..");
  const flags = O_RDONLY | O_NONBLOCK;
  try {
    if (isInside) return readText(root.open(bytesOfText(inside), flags, 0, { escape: "refuse" }), path);
    // Given by the user himself: his links are his business, of the last component too.
    using directory = RootDir.open(bytesOfText(dirname(path)));
    return readText(new sys.OwnedFd(sys.openat(directory.fd, bytesOfText(basename(path)), flags)), path);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return undefined;
    if (hasCode(error, "EXDEV")) {
      throw new LamellaError("failed_precondition", "LEAVES_CONTEXT", `${path} is a link out of the build context`, {
        hint: "put the file itself into the context",
        cause: error,
      });
    }
    throw error;
  }
}

function readText(opened: sys.OwnedFd, path: string): string {
  using file = opened;
  const stat = sys.fstat(file.fd);
  const refuse = (problem: string): LamellaError =>
    new LamellaError("failed_precondition", "UNUSABLE_FILE", `${path} ${problem}`);
  if ((stat.mode & S_IFMT) !== S_IFREG) throw refuse("is not a regular file");
  if (stat.size > MAX_BYTES) throw refuse(`has ${stat.size} bytes; at most ${MAX_BYTES} are read`);
  const content = Buffer.alloc(stat.size);
  let length = 0;
  while (length < content.length) {
    const n = sys.read(file.fd, content.subarray(length));
    if (n === 0) break;
    length += n;
  }
  return content.toString("utf8", 0, length);
}
