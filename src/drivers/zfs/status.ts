/** The status lines of the zfs driver, exactly as `docker info` prints them, in Docker's order. */
import { complaintOf, type Programs } from "./programs.ts";

/** Asks `zpool` and `zfs`: two short processes, only when somebody wants to know. */
export function statusLines(programs: Programs, parent: string): readonly (readonly [string, string])[] {
  const pool = parent.split("/")[0] ?? "";
  const asked = programs.zpoolSync(["list", "-H", "-o", "health", pool]);
  const wrong = asked.refusal === undefined ? undefined : complaintOf(asked);
  const columns = ["used", "available", "quota", "compression"];
  const answer = programs.zfsSync(["get", "-H", "-p", "-o", "property,value", columns.join(","), parent]);
  const values = new Map(answer.stdout.split("\n").map((line) => line.split("\t") as [string, string]));
  const value = (name: string): string => values.get(name) ?? "";
  const quota = value("quota");
  return [
    ["Zpool", wrong === undefined ? pool : `error while getting pool information ${wrong}`],
    ["Zpool Health", wrong === undefined ? asked.stdout.trim() : "not available"],
    ["Parent Dataset", parent],
    ["Space Used By Parent", value("used")],
    ["Space Available", value("available")],
    ["Parent Quota", quota === "0" || quota === "none" || quota === "" ? "no" : quota],
    ["Compression", value("compression")],
  ];
}
