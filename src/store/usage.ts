/** What the store takes on disk. */
import { readdirSync } from "node:fs";
import { diskUsage } from "../fs/disk-usage.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { AT_FDCWD, S_IFDIR, S_IFMT } from "../sys/constants.ts";
import { statIfExists, statx } from "../sys/syscalls.ts";
import type { StoreContext } from "./context.ts";
import type { DiskUsage } from "./types.ts";

/** See `Store.usage`. Parts are measured one by one; hard links never cross them, so their sum is the whole. */
export async function measureUsage(store: StoreContext): Promise<DiskUsage> {
  const { paths, tables } = store;
  const drivers = new Set([...tables.meta.drivers(), store.driver.name]);
  const sums = { layersBytes: 0, recordsBytes: 0, blobsBytes: 0, metadataBytes: 0, otherBytes: 0 };
  const root = bytesOfText(paths.root);
  sums.otherBytes = statx(AT_FDCWD, root).blocks * 512;
  for (const name of readdirSync(paths.root)) {
    const stat = statIfExists(AT_FDCWD, bytesOfText(`${paths.root}/${name}`));
    if (stat === undefined) continue;
    const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
    sums[partOf(name, drivers)] += isDirectory ? await sizeOf(`${paths.root}/${name}`) : stat.blocks * 512;
  }
  if (store.driver.capabilities.ownFileSystems)
    for (const id of await store.driver.list()) sums.layersBytes += (await store.driver.usage(id)).sizeBytes;
  return { ...sums, totalBytes: Object.values(sums).reduce((a, b) => a + b) };
}

function partOf(name: string, drivers: ReadonlySet<string>): Exclude<keyof DiskUsage, "totalBytes"> {
  if (drivers.has(name)) return "layersBytes";
  if (name === "records" || name === "spill") return "recordsBytes";
  if (name === "blobs") return "blobsBytes";
  return name === "meta" ? "metadataBytes" : "otherBytes";
}

async function sizeOf(path: string): Promise<number> {
  return (await diskUsage(bytesOfText(path), { oneFileSystem: true })).sizeBytes;
}
