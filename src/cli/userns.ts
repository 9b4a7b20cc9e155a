/**
 * Runs a program as root of a new user and mount namespace, so that whoever is not root can mount overlays and keep
 * files of many owners.
 *
 * util-linux's or busybox's `unshare` makes the namespaces and starts a shell that waits; this process maps the ids from
 * outside, with the setuid helpers newuidmap and newgidmap when /etc/subuid and /etc/subgid give the user a range, else
 * the user's own id alone; then the shell becomes the program. Standard streams, signals and the exit status pass through.
 * The mounts made inside vanish with the last process inside. Source: user_namespaces(7), subuid(5).
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { constants, userInfo } from "node:os";
import { isatty } from "node:tty";
import { LamellaError } from "../errors/lamella-error.ts";
import { maySetIds } from "./privileges.ts";

/** The shell says that it is in the namespaces, and goes on when it is told to. */
const waitingShell = 'echo ready >&3; read -r go <&3 || exit 125; exec "$@" 3>&- 2>&4 4>&-';

/** Runs `program` with `env` added to the environment. Answers its exit status, 128 and the signal when one killed it. */
export async function runInUserNamespace(
  program: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const child = spawn("unshare", ["-U", "-m", "sh", "-c", waitingShell, "sh", ...program], {
    // The shell's own standard error is read here; the program gets the real one, through descriptor 4.
    stdio: ["inherit", "inherit", "pipe", "pipe", 2],
    env: { ...process.env, ...env },
  });
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  ended.catch(() => {});
  const stopForwarding = forwardSignals(child);
  try {
    await started(child);
    mapIds(child.pid ?? 0);
    (child.stdio[3] as Socket).end("go\n");
    const [status, signal] = await ended;
    return signal === null ? (status ?? 1) : 128 + constants.signals[signal];
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  } finally {
    stopForwarding();
  }
}

/** Resolves when the shell is in the namespaces; throws with the reason when there are none to be had. */
async function started(child: ChildProcess): Promise<void> {
  let said = "";
  const collect = (chunk: Buffer): void => {
    said += chunk.toString("utf8");
  };
  child.stderr?.on("data", collect);
  const ready = once(child.stdio[3] as Socket, "data").then(() => "ready" as const);
  ready.catch(() => {});
  const outcome = await Promise.race([ready, once(child, "close").then(() => "ended" as const)]).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      throw new LamellaError("failed_precondition", "NO_UNSHARE", "the program `unshare` is not installed", {
        hint: "install util-linux, or run lamella as root",
      });
    },
  );
  child.stderr?.off("data", collect);
  if (outcome === "ended") throw noNamespaces(said.trim());
}

function noNamespaces(said: string): LamellaError {
  const message = `this user cannot make a user namespace${said === "" ? "" : ` (${said.split("\n")[0]})`}`;
  return new LamellaError("permission_denied", "NO_USER_NAMESPACE", message, { hint: remedy() });
}

/** What keeps user namespaces from this user, read from the kernel's switches. */
function remedy(): string {
  if (sysctl("user/max_user_namespaces") === "0") {
    return "user namespaces are switched off: `sudo sysctl -w user.max_user_namespaces=15000`, or run lamella as root";
  }
  if (sysctl("kernel/unprivileged_userns_clone") === "0") {
    return "only root may make user namespaces here: `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run lamella as root";
  }
  if (sysctl("kernel/apparmor_restrict_unprivileged_userns") === "1") {
    return (
      "AppArmor keeps user namespaces from programs without a profile: " +
      "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run lamella as root"
    );
  }
  return (
    "run lamella as root; inside a container, start that with CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN) " +
    "or with a seccomp profile that allows unshare"
  );
}

function sysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, "latin1").trim();
  } catch {
    return undefined;
  }
}

/** Maps the ids of the namespaces of process `pid`: all that this user is entitled to, the user as root. */
function mapIds(pid: number): void {
  if (maySetIds()) {
    for (const kind of ["uid", "gid"]) writeFileSync(`/proc/${pid}/${kind}_map`, identityMap(kind));
    return;
  }
  const { uid, gid } = userInfoOr();
  const [uids, gids] = [subordinateIds("/etc/subuid", uid), subordinateIds("/etc/subgid", uid)];
  if (uids.length > 0 && gids.length > 0) {
    if (runHelper("newuidmap", pid, uid, uids) && runHelper("newgidmap", pid, gid, gids)) return;
  }
  // A map can be written once: when newuidmap has run and newgidmap failed, only the groups are left to do.
  if (readFileSync(`/proc/${pid}/uid_map`, "latin1") === "") writeFileSync(`/proc/${pid}/uid_map`, `0 ${uid} 1\n`);
  writeFileSync(`/proc/${pid}/setgroups`, "deny");
  writeFileSync(`/proc/${pid}/gid_map`, `0 ${gid} 1\n`);
}

/** Every id this process knows, under the same number. */
function identityMap(kind: string): string {
  const lines = readFileSync(`/proc/self/${kind}_map`, "latin1").trim().split("\n");
  return lines
    .map((line) => line.trim().split(/\s+/))
    .map(([inside, , count]) => `${inside} ${inside} ${count}\n`)
    .join("");
}

interface IdRange {
  readonly start: number;
  readonly count: number;
}

/** The ranges a file of the form `user:start:count` gives to this user, by name or number. */
function subordinateIds(path: string, uid: number): IdRange[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  const names = new Set([String(uid), userInfoOr().username]);
  return text
    .split("\n")
    .map((line) => line.split(":"))
    .filter(([name = "", start, count]) => names.has(name) && start !== undefined && count !== undefined)
    .map(([, start, count]) => ({ start: Number(start), count: Number(count) }))
    .filter(({ start, count }) => Number.isSafeInteger(start) && count > 0);
}

/** `newuidmap PID 0 UID 1 1 START COUNT …`; false when the helper is missing or refuses. */
function runHelper(helper: string, pid: number, id: number, ranges: readonly IdRange[]): boolean {
  const map = ["0", String(id), "1"];
  let inside = 1;
  for (const { start, count } of ranges) {
    map.push(String(inside), String(start), String(count));
    inside += count;
  }
  return spawnSync(helper, [String(pid), ...map], { stdio: "ignore" }).status === 0;
}

/** The user's ids and name; a user without an entry in passwd has no name. */
function userInfoOr(): { uid: number; gid: number; username: string } {
  try {
    return userInfo();
  } catch {
    return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, username: "" };
  }
}

/** Passes signals on. Those of the terminal reach the whole foreground group by themselves. */
function forwardSignals(child: ChildProcess): () => void {
  const forwarded = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
  const fromTerminal = (signal: NodeJS.Signals): boolean => (signal === "SIGINT" || signal === "SIGQUIT") && isatty(0);
  const forward = (signal: NodeJS.Signals): void => {
    if (!fromTerminal(signal)) child.kill(signal);
  };
  for (const signal of forwarded) process.on(signal, forward);
  return () => {
    for (const signal of forwarded) process.off(signal, forward);
  };
}
