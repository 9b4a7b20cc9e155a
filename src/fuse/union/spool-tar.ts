/**
 * Lower layers that are compressed tars. A layer is read where its bytes lie, and what is compressed has no such place: it is
 * decompressed once, before the mount, into a file without a name, which goes with the mount. That lies in the work
 * directory, or in /var/tmp for a read-only union, and may take half of the space that is free there.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { systemZstd } from "../../sys/zstd.ts";
import { decompress, detectCompression, detectionBytes } from "../../tar/compression.ts";

const EOPNOTSUPP = 95;
const EISDIR = 21;
const CHUNK = 1 << 20;
const withoutUpper = "/var/tmp";

/**
 * The paths of layers, those of compressed tars replaced by such files in this process, whose descriptors are to be closed when
 * the layers have been opened. Errors: SyscallError; those of decompress; resource_exhausted when it does not fit.
 */
export async function spoolLayers(
  paths: readonly ByteString[],
  work: ByteString | undefined,
): Promise<{ readonly paths: readonly ByteString[]; readonly spools: readonly sys.OwnedFd[] }> {
  const spools: sys.OwnedFd[] = [];
  const found: ByteString[] = [];
  try {
    for (const path of paths) {
      using file = openCompressed(path);
      if (file === undefined) {
        found.push(path);
        continue;
      }
      const spool = openUnnamed(work ?? withoutUpper);
      spools.push(spool);
      await fill(spool.fd, file.fd, path);
      found.push(`/proc/self/fd/${spool.fd}`);
    }
  } catch (error) {
    for (const spool of spools) spool[Symbol.dispose]();
    throw error;
  }
  return { paths: found, spools };
}

/** Undefined for what is no file, or not compressed. */
function openCompressed(path: ByteString): sys.OwnedFd | undefined {
  if ((sys.statx(C.AT_FDCWD, path, 0).mode & C.S_IFMT) !== C.S_IFREG) return undefined;
  const file = sys.open(path, C.O_RDONLY);
  const head = Buffer.alloc(detectionBytes);
  const n = raw.pread64(file.fd, head, head.length, 0);
  if (detectCompression(head.subarray(0, Math.max(0, n))) !== "none") return file;
  file[Symbol.dispose]();
  return undefined;
}

function openUnnamed(folder: ByteString): sys.OwnedFd {
  const fd = raw.openat(C.AT_FDCWD, folder, C.O_TMPFILE | C.O_RDWR, 0o600);
  if (fd >= 0) return new sys.OwnedFd(fd);
  if (fd !== -EOPNOTSUPP && fd !== -EISDIR) throw new SyscallError("openat", -fd, textOfBytes(folder));
  const name = `${folder}/#spool-${process.pid}`;
  const file = sys.open(name, C.O_RDWR | C.O_CREAT | C.O_EXCL, 0o600);
  sys.unlinkat(C.AT_FDCWD, name);
  return file;
}

async function fill(to: number, from: number, path: ByteString): Promise<void> {
  const space = raw.fstatfs(to);
  const outputBytes = typeof space === "number" ? 0 : Math.floor((space.blocksAvailable * space.blockSize) / 2);
  const options = { zstd: systemZstd(), limits: { outputBytes } };
  try {
    for await (const piece of decompress(pieces(from), options)) sys.writeAll(to, piece);
  } catch (error) {
    if (!(error instanceof LamellaError)) throw error;
    throw new LamellaError(error.kind, error.code, `${textOfBytes(path)}: ${error.message}`, {
      hint: error.hint,
      cause: error,
    });
  }
}

async function* pieces(fd: number): AsyncGenerator<Uint8Array> {
  for (;;) {
    const piece = Buffer.allocUnsafe(CHUNK);
    const n = sys.read(fd, piece);
    if (n === 0) return;
    yield piece.subarray(0, n);
  }
}
