/**
 * The options of a union as mount(8) gives them: `lowerdir=/a:/b,upperdir=/u,workdir=/w,metacopy=on`. They have the names and
 * defaults of the kernel's overlayfs; those of fuse-overlayfs that mean nothing here are taken and left.
 *
 * In `lowerdir` a colon parts two layers, the uppermost comes first. A backslash takes its meaning from the character behind
 * it, from a comma too.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, bytesOfText } from "../../lib/bytes.ts";
import { nearest } from "../../lib/nearest.ts";
import { isMountFlag, type MountFlag } from "../mount-flags.ts";
import { type IdMap, parseIdRanges } from "./id-map.ts";
import type { UnionOptions } from "./union.ts";

/** The mount as it was asked for. Paths may be relative. */
export interface MountRequest {
  readonly lowers: readonly ByteString[];
  readonly upper: ByteString | undefined;
  readonly work: ByteString | undefined;
  /** `user.overlay.` attributes are asked for. */
  readonly userxattr: boolean;
  readonly features: Pick<
    UnionOptions,
    | "redirectDir"
    | "metacopy"
    | "volatile"
    | "marks"
    | "index"
    | "unsynced"
    | "strict"
    | "users"
    | "groups"
    | "permissions"
  >;
  /** A file for what goes wrong inside, once nobody reads standard error. */
  readonly log: string | undefined;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly flags: readonly MountFlag[];
}

const switches: Readonly<Record<string, readonly string[]>> = {
  redirect_dir: ["on", "off", "follow", "nofollow"],
  metacopy: ["on", "off"],
  index: ["on", "off"],
  // Of layers that fuse-overlayfs or AUFS wrote: `.wh.` names count, too, and redirects only when they are asked for.
  marks: ["overlayfs", "any"],
  // File handles would have to find objects that the kernel has forgotten.
  nfs_export: ["off"],
  xino: ["on", "off", "auto"],
  uuid: ["on", "off", "auto", "null"],
  verity: ["off"],
  xattr_permissions: ["0", "1", "2"],
  // 0 and 1 are fuse-overlayfs's, the others the kernel's.
  fsync: ["0", "1", "volatile", "auto", "strict"],
};
/** Why there is no other value. */
const reasons: Readonly<Record<string, string>> = {
  nfs_export: "a FUSE file system of layers cannot give out file handles; export a directory of another kind",
  verity: "let the kernel mount layers whose content it is to verify",
};
const paths = ["lowerdir", "upperdir", "workdir", "log"] as const;
/** With ranges of IDs, and with one. */
const idRanges = ["uidmapping", "gidmapping"] as const;
const ids = ["squash_to_uid", "squash_to_gid"] as const;
// biome-ignore format: a list
const words = [
  "userxattr", "volatile", "ro", "rw", "allow_other", "default_permissions", "dev", "nodev", "suid", "nosuid", "exec",
  "noexec", "atime", "noatime", "relatime", "strictatime", "diratime", "nodiratime", "nonempty", "fast_ino", "static_nlink", "squash_to_none",
  "squash_to_root",
];
/** Taken with any value and left: they tune what there is nothing to tune of here. */
const left = ["timeout", "threaded", "fast_ino", "context", "max_idle_threads", "fsname", "subtype"];

/** With `remount`: what the mount that is there shall be. Its layers stay, whatever else is said. */
export function parseRemount(text: string): Pick<MountRequest, "readOnly" | "flags"> | undefined {
  const given = split(text, ",");
  return given.includes("remount") ? { readOnly: given.includes("ro"), flags: given.filter(isMountFlag) } : undefined;
}

/** Reads the value of `-o`. Errors: invalid_argument for what is unknown, missing, or contradicts itself. */
export function parseMountOptions(text: string): MountRequest {
  const given = new Map<string, string>();
  for (const option of split(text, ",")) {
    const equals = option.indexOf("=");
    const name = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? undefined : option.slice(equals + 1);
    check(name, value);
    given.set(name, value ?? "");
  }
  const path = (name: (typeof paths)[number]): ByteString | undefined => {
    const value = given.get(name);
    return value === undefined ? undefined : bytesOfText(unescaped(value));
  };
  const lowers = split(given.get("lowerdir") ?? "", ":").map((each) => bytesOfText(unescaped(each)));
  const upper = path("upperdir");
  const work = path("workdir");
  if (lowers.length === 0) throw wrong("a union needs at least one layer", "give the option lowerdir=DIRECTORY[:…]");
  if ((upper === undefined) !== (work === undefined))
    throw wrong("upperdir and workdir go together", "give both, on one file system, or neither for a read-only mount");
  const metacopy = given.get("metacopy") === "on";
  const redirect = given.get("redirect_dir") ?? (metacopy ? "on" : "off");
  if (metacopy && redirect !== "on") throw wrong("metacopy=on needs redirect_dir=on", "give both, or none");
  return {
    lowers,
    upper,
    work,
    userxattr: given.has("userxattr"),
    features: {
      redirectDir: redirect === "on",
      metacopy,
      volatile: given.has("volatile") || given.get("fsync") === "volatile",
      unsynced: given.get("fsync") === "0",
      ...(given.get("marks") === "any" && { marks: followsRedirects(redirect) ? ("all" as const) : ("any" as const) }),
      index: given.get("index") === "on",
      strict: given.get("fsync") === "strict",
      ...owners(given),
      ...permissions(given.get("xattr_permissions")),
    },
    log: given.get("log"),
    readOnly: given.has("ro") || upper === undefined,
    allowOther: given.has("allow_other"),
    flags: [...given.keys()].filter(isMountFlag),
  };
}

/** Those of layers whose marks are not the kernel's alone. */
function followsRedirects(redirect: string): boolean {
  return redirect === "on" || redirect === "follow";
}

function permissions(kind: string | undefined): Pick<UnionOptions, "permissions"> {
  if (kind === undefined) return {};
  return { permissions: kind === "1" ? 1 : kind === "2" ? 2 : "inodes" };
}

function owners(given: ReadonlyMap<string, string>): Pick<UnionOptions, "users" | "groups"> {
  const map = (ranges: string | undefined, squash: string | undefined): IdMap | undefined => {
    if (ranges === undefined && squash === undefined && !given.has("squash_to_root")) return undefined;
    const all = given.has("squash_to_root") ? 0 : squash === undefined ? undefined : Number(squash);
    return { ranges: parseIdRanges(ranges ?? "") ?? [], squash: all };
  };
  const users = map(given.get("uidmapping"), given.get("squash_to_uid"));
  const groups = map(given.get("gidmapping"), given.get("squash_to_gid"));
  return { ...(users && { users }), ...(groups && { groups }) };
}

function check(name: string, value: string | undefined): void {
  const allowed = switches[name];
  if (allowed !== undefined) {
    if (value === undefined || !allowed.includes(value))
      throw wrong(`${name}=${value ?? ""} is not supported`, reasons[name] ?? `one of: ${allowed.join(", ")}`);
    return;
  }
  if (idRanges.some((each) => each === name)) {
    if (parseIdRanges(value ?? "") !== undefined) return;
    throw wrong(`${name}=${value ?? ""} names no ranges`, `give ${name}=DISK:SHOWN:LENGTH[:DISK:SHOWN:LENGTH…]`);
  }
  if (ids.some((each) => each === name)) {
    if (/^\d{1,10}$/.test(value ?? "")) return;
    throw wrong(`${name}=${value ?? ""} is no ID`, `give ${name}=NUMBER`);
  }
  const isPath = paths.some((each) => each === name);
  if (isPath ? value : value === undefined && words.includes(name)) return;
  if (left.includes(name) && !isPath) return;
  const known = [...Object.keys(switches), ...paths, ...idRanges, ...ids, ...words];
  const [near] = nearest(name, known);
  throw wrong(`unknown option: ${name}`, near === undefined ? `options: ${known.join(", ")}` : `did you mean ${near}?`);
}

function wrong(message: string, hint: string): LamellaError {
  return new LamellaError("invalid_argument", "MOUNT_OPTION", message, { hint });
}

/** The parts of a list; a separator behind a backslash is none. Empty parts are left out. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i);
    if (character === "\\") part += character + text.charAt(++i);
    else if (character === separator) {
      parts.push(part);
      part = "";
    } else part += character;
  }
  return [...parts, part].filter((each) => each !== "");
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, "$1");
}
