/**
 * USER and --chown: names looked up in the image's own /etc/passwd and /etc/group, as Docker does.
 *
 * The files belong to whoever made the image. They are opened inside the root, must be regular files, and at most 8 MiB of
 * them are read (CVE-2024-9676: a link to /dev/zero, a fifo, a file without end).
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../lib/bytes.ts";
import { O_NOFOLLOW, O_NONBLOCK, O_RDONLY, S_IFMT, S_IFREG } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { locate } from "./rooted-path.ts";

const MAX_FILE_BYTES = 8 << 20;
const MAX_ID = 2 ** 31 - 1;

export interface ImageUser {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly home: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * The user a container runs as: `name`, `uid`, either with `:group` or `:gid`; "" is root. Without a group: that of the
 * passwd entry and all groups that list the user; an id without an entry has group 0. Errors: not_found.
 */
export function resolveUser(rootFd: number, text: string): ImageUser {
  const [userText, groupText] = splitUser(text);
  const wanted = userText === "" ? "0" : userText;
  const number = idOf(wanted, text);
  const passwd = readEntries(rootFd, "/etc/passwd", passwdEntry);
  const entry = passwd.find((e) => e.name === wanted) ?? passwd.find((e) => e.uid === number);
  if (entry === undefined && number === undefined) throw unknownName("user", wanted, "/etc/passwd");
  const uid = entry?.name === wanted ? entry.uid : (number ?? entry?.uid ?? 0);
  const home = entry?.home || "/";
  if (groupText !== undefined && groupText !== "")
    return withOwnGroup({ uid, gid: resolveGroup(rootFd, groupText, text), groups: [], home });
  if (entry === undefined) return withOwnGroup({ uid, gid: 0, groups: [], home });
  const groups = readEntries(rootFd, "/etc/group", groupEntry)
    .filter((group) => group.members.includes(entry.name))
    .map((group) => group.gid);
  return withOwnGroup({ uid, gid: entry.gid, groups, home });
}

/** The primary group is a supplementary one too, so that giving it up (CVE-2022-36109) takes no access away or adds it. */
function withOwnGroup(user: ImageUser): ImageUser {
  return { ...user, groups: [...new Set([user.gid, ...user.groups])].sort((a, b) => a - b) };
}

/** Owner of copied files: as for a user, but a number without a group means that number for both, and a name its own id. */
export function resolveOwner(rootFd: number, text: string): { readonly uid: number; readonly gid: number } {
  const [userText, groupText] = splitUser(text);
  const number = idOf(userText, text);
  let uid = number;
  if (uid === undefined) {
    const entry = readEntries(rootFd, "/etc/passwd", passwdEntry).find((e) => e.name === userText);
    if (entry === undefined) throw unknownName("user", userText, "/etc/passwd");
    uid = entry.uid;
  }
  // Without a group Docker uses the user's text for both.
  const gid = resolveGroup(rootFd, groupText === undefined || groupText === "" ? userText : groupText, text);
  return { uid, gid };
}

function resolveGroup(rootFd: number, group: string, text: string): number {
  const number = idOf(group, text);
  if (number !== undefined) return number;
  const entry = readEntries(rootFd, "/etc/group", groupEntry).find((e) => e.name === group);
  if (entry === undefined) throw unknownName("group", group, "/etc/group");
  return entry.gid;
}

function splitUser(text: string): [string, string | undefined] {
  const colon = text.indexOf(":");
  return colon < 0 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
}

function idOf(word: string, text: string): number | undefined {
  if (!/^[0-9]+$/.test(word)) return undefined;
  const id = Number(word);
  if (id <= MAX_ID) return id;
  throw new LamellaError("invalid_argument", "INVALID_USER", `${JSON.stringify(text)}: ids go from 0 to ${MAX_ID}`);
}

function unknownName(what: "user" | "group", name: string, file: string): LamellaError {
  return new LamellaError("not_found", "UNKNOWN_USER", `no ${what} ${JSON.stringify(name)} in the image's ${file}`, {
    hint: `add it in an earlier step, or use a number`,
  });
}

function passwdEntry(fields: readonly string[]): PasswdEntry | undefined {
  const [name = "", , uid = "", gid = "", , home = ""] = fields;
  if (name === "" || !/^[0-9]+$/.test(uid) || !/^[0-9]+$/.test(gid)) return undefined;
  return { name, uid: Number(uid), gid: Number(gid), home };
}

function groupEntry(fields: readonly string[]): GroupEntry | undefined {
  const [name = "", , gid = "", members = ""] = fields;
  if (name === "" || !/^[0-9]+$/.test(gid)) return undefined;
  return { name, gid: Number(gid), members: members.split(",").map((member) => member.trim()) };
}

function readEntries<T>(rootFd: number, path: ByteString, parse: (fields: readonly string[]) => T | undefined): T[] {
  const content = readRegularFile(rootFd, path);
  if (content === undefined) return [];
  const entries: T[] = [];
  for (const line of textOfBytes(content.toString("latin1")).split("\n")) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const entry = parse(trimmed.split(":"));
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/**
 * A small regular file inside the root; undefined when there is none. Errors: failed_precondition when it is something else
 * or larger than 8 MiB.
 */
export function readRegularFile(rootFd: number, path: ByteString): Buffer | undefined {
  using found = locate(rootFd, bytesOfText(path));
  if (found.stat === undefined || found.name === undefined) return undefined;
  const refuse = (problem: string): LamellaError =>
    new LamellaError("failed_precondition", "UNUSABLE_FILE", `the image's ${textOfBytes(path)} ${problem}`);
  if ((found.stat.mode & S_IFMT) !== S_IFREG) throw refuse("is not a regular file");
  // O_NONBLOCK: should a fifo have taken its place meanwhile, opening must not wait.
  using file = new sys.OwnedFd(sys.openat(found.directory, found.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const stat = sys.fstat(file.fd);
  if ((stat.mode & S_IFMT) !== S_IFREG) throw refuse("is not a regular file");
  if (stat.size > MAX_FILE_BYTES) throw refuse(`has ${stat.size} bytes; at most ${MAX_FILE_BYTES} are read`);
  const content = Buffer.alloc(stat.size);
  let length = 0;
  while (length < content.length) {
    const n = sys.read(file.fd, content.subarray(length));
    if (n === 0) break;
    length += n;
  }
  return content.subarray(0, length);
}
