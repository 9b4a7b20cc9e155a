/**
 * What a goroutine of dockerd is doing, by the functions on its stack. The names are those of Go's own packages and of moby:
 * newer ones have their archives in github.com/moby/go-archive, and all of it in github.com/moby/moby/v2.
 */
import type { Goroutine } from "../../profile/goroutine-dump.ts";
import { type Profile, totalWeight } from "../../profile/profile.ts";

/** In the order they are shown. */
export const activities = {
  "naive-diff": {
    says: "comparing whole trees (naive diff)",
    marks: /\(\*NaiveDiffDriver\)\.(Diff|Changes|DiffSize)|archive\.(ChangesDirs|ExportChanges)/,
  },
  "native-diff": {
    says: "packing what a step wrote (native diff)",
    marks: /archive\.TarWithOptions|\(\*Tarballer\)\.Do/,
  },
  copy: { says: "copying the layer below", marks: /graphdriver\/copy\.DirCopy|graphdriver\/vfs\.dirCopy/ },
  mount: {
    says: "mounting and unmounting",
    marks: /(unix|syscall)\.(u?n?mount2?|Mount|Unmount)$|moby\/sys\/mount\.|graphdriver\/\w+\.\(\*Driver\)\.(Get|Put)$/,
  },
  unpack: {
    says: "unpacking layers",
    marks: /archive\.(Unpack|UnpackLayer|ApplyLayer|ApplyUncompressedLayer|createTarFile)$/,
  },
  gzip: {
    says: "compressing and decompressing",
    marks: /compress\/(gzip|flate|bzip2)\.|\/pgzip\.|\/zstd\.|\/compression\./,
  },
  hash: { says: "hashing", marks: /crypto\/sha(256|512)\.|crypto\/internal\/fips140\/sha256|tarsum\.\(/ },
  sync: {
    says: "waiting for the disk (fsync)",
    marks: /(\(\*File\)\.Sync|\.(Fsync|fsync|Fdatasync|fdatasync|Syncfs|SyncFs))$/,
  },
  container: {
    says: "running a step's command",
    marks: /\(\*containerManager\)\.Run$|\(\*Daemon\)\.(ContainerStart|containerStart)$|executor\/\w+\.\(\*\w+\)\.Run$/,
  },
} as const satisfies Readonly<Record<string, { readonly says: string; readonly marks: RegExp }>>;

export type Activity = keyof typeof activities;

const activityNames = Object.keys(activities) as Activity[];

/** All that a stack is in: a mount within a naive diff is both. */
export function activitiesOf(frames: readonly string[]): Activity[] {
  return activityNames.filter((name) => frames.some((frame) => activities[name].marks.test(frame)));
}

/** A goroutine of the classic builder, from its first step to its last; one of BuildKit that waits for a step's command. */
const isBuild = /builder\/dockerfile\.\(\*Builder\)\.(build|Build)|buildkit\/executor\/\w+\.\(\*\w+\)\.Run$/;
/** Functions of Docker's that have to do with layers. */
const isStorage =
  /(docker\/docker|moby\/moby\/v2)\/(daemon\/)?(internal\/)?(graphdriver|layer|snapshotter|pkg\/archive|pkg\/chrootarchive)[./]|moby\/go-archive[./]/;
/** It waits for another goroutine, and that one is looked at, too. `sleep` is no such: the naive diff ends with one. */
const isParked = /^(select|chan |sync\.|semacquire|finalizer|GC |force gc)/;

/** True for a goroutine that a build, or something else with layers, keeps waiting: the others are none of our business. */
export function isWork({ frames, state }: Goroutine): boolean {
  if (frames.some((frame) => isBuild.test(frame))) return true;
  return !isParked.test(state) && frames.some((frame) => isStorage.test(frame));
}

export interface ActivityShare {
  readonly activity: Activity;
  /** In words. */
  readonly says: string;
  readonly weight: number;
  /** Of all samples, 0 to 1. Shares may add up to more than 1: a stack can be in two. */
  readonly share: number;
}

/** The activities there are in a profile, the largest first. */
export function sharesOf(profile: Profile): ActivityShare[] {
  const total = totalWeight(profile);
  const weights = new Map<Activity, number>();
  for (const { frames, weight } of profile.samples)
    for (const one of activitiesOf(frames)) weights.set(one, (weights.get(one) ?? 0) + weight);
  return [...weights]
    .map(([activity, weight]) => ({ activity, says: activities[activity].says, weight, share: weight / total }))
    .sort((a, b) => b.weight - a.weight);
}
