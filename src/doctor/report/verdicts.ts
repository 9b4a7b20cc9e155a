/** The sentences a report begins with, the same on the terminal and in a page. */
import type { WatchReport } from "../watch/watch.ts";

export function watchVerdict({ looks, activities, source }: WatchReport): string {
  const naive = activities.find(({ activity }) => activity === "naive-diff");
  const share = `${Math.round((naive?.share ?? 0) * 100)} %`;
  if (looks === undefined)
    return naive === undefined
      ? `No naive diff in ${source}: dockerd did not compare whole trees.`
      : `Docker compared whole trees for ${share} of what is in ${source}.`;
  if (looks.busy === 0)
    return "Nothing was going on with layers: start the slow build first, and look again while it runs.";
  const idle = looks.all - looks.busy;
  const atWork = idle === 0 ? "" : ` (in ${idle} of ${looks.all} looks nothing was going on)`;
  if (naive === undefined) return `No naive diff was going on: dockerd does not compare whole trees${atWork}.`;
  return `Docker compares whole trees: ${looks.naive} of ${looks.busy} looks at its work found it there, ${share} of all samples${atWork}.`;
}
