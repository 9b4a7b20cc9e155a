/** `lamella doctor --watch`, and `--from`. */
import type { Command } from "commander";
import { sockets } from "../../doctor/collect/docker.ts";
import { HostView } from "../../doctor/host-view.ts";
import { watchVerdict } from "../../doctor/report/verdicts.ts";
import { watchPage } from "../../doctor/report/watch-page.ts";
import type { Activity } from "../../doctor/watch/activity.ts";
import { activitiesOf } from "../../doctor/watch/activity.ts";
import { readWatched } from "../../doctor/watch/read-files.ts";
import { type Look, type Watched, type WatchReport, watch } from "../../doctor/watch/watch.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { wrapText } from "../../lib/wrap-text.ts";
import { writeFolded } from "../../profile/folded.ts";
import { writeSpeedscope } from "../../profile/speedscope.ts";
import type { Cli } from "../cli.ts";
import { LiveLines } from "../live-lines.ts";
import { stderr, stdout } from "../output.ts";
import { type Style, stdoutStyle } from "../style.ts";
import { bars } from "./bars.ts";
import { callersEnvironment, type EvidenceFlags, writeReport } from "./evidence-options.ts";

export async function runWatch(cli: Cli, command: Command, flags: EvidenceFlags): Promise<void> {
  const { json, quiet } = cli.globals(command);
  const watched = flags.from !== undefined ? readWatched(flags.from, flags.log) : await watchLive(cli, flags, quiet);
  writeReport(cli, flags.html, () => watchPage(watched));
  writeReport(cli, flags.speedscope, () => writeSpeedscope(watched.profile));
  writeReport(cli, flags.folded, () => writeFolded(watched.profile));
  if (json) return cli.printJson(watched.report);
  cli.write(render(watched.report, stdoutStyle(), Math.min(stdout.columns, 120)));
}

async function watchLive(cli: Cli, flags: EvidenceFlags, quiet: boolean): Promise<Watched> {
  const socket = theSocket();
  let line = `looking at ${socket}`;
  using _lines = new LiveLines(stderr, () => [line], stderr.isTTY && !quiet);
  return await watch({
    socket,
    looks: flags.samples,
    intervalMs: flags.interval * 1000,
    way: flags.dumpBy,
    logFile: flags.log,
    signal: cli.signal,
    onLook: (look, number) => {
      line = `look ${number} of ${flags.samples}: ${describe(look)}`;
    },
  });
}

function describe({ samples }: Look): string {
  const now = new Set<Activity>(samples.flatMap(({ frames }) => activitiesOf(frames)));
  if (now.size > 0) return [...now].join(", ");
  return samples.length > 0 ? "other work" : "nothing going on";
}

/** The daemon that DOCKER_HOST names, else the usual one. */
function theSocket(): string {
  const host = new HostView();
  const env = callersEnvironment();
  const options = { env, uid: process.getuid?.() ?? 0, onlyRoots: (env.DOCKER_HOST ?? "") !== "" };
  const [socket] = sockets(host, options, []);
  if (socket !== undefined) return socket;
  const why = host.unseen.map((one) => `${one.what}: ${one.why}`).join("; ");
  throw new LamellaError("not_found", "NO_DAEMON", why || "no socket of a dockerd is to be found", {
    hint: "start Docker, or name its socket in DOCKER_HOST (unix://PATH)",
  });
}

function render(report: WatchReport, style: Style, columns: number): string {
  const { looks, activities, log, unseen, unit, totalWeight, pid, source, socket } = report;
  const amount = unit === "none" ? `${totalWeight} samples` : `${Math.round(totalWeight / 1e6)} ms`;
  const where = [socket, pid && `process ${pid}`, source, looks && `${looks.all} looks`, amount];
  const parts = [
    `${style.bold(wrapText(watchVerdict(report), columns, "").join("\n"))}\n${style.dim(where.filter(Boolean).join(", "))}\n`,
  ];
  if (activities.length > 0) {
    const rows = activities.map(({ activity, says, share }) => ({
      label: says,
      value: share,
      says: `${Math.round(share * 100)} %`,
      paint: activity === "naive-diff" ? style.red : style.cyan,
    }));
    parts.push(bars(rows, columns, 1));
  }
  if (log !== undefined && log.lines.length > 0) {
    const lines = log.lines.map(({ line, means }) => `  ${style.yellow(means)}\n    ${line}\n`);
    parts.push(`${style.bold(`Its log (${log.source}):`)}\n${lines.join("")}`);
  }
  if (unseen.length > 0)
    parts.push(`${style.bold("Not seen:")}\n${unseen.map(({ what, why }) => `  ${what}: ${why}\n`).join("")}`);
  return parts.join("\n");
}
