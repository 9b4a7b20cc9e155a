/** Bar charts on a terminal, exact to an eighth of a character. */
import { textWidth } from "../../lib/text-table.ts";

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** The value in words, at the line's end. */
  readonly says: string;
  readonly paint: (text: string) => string;
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/** No bar is longer, whatever the terminal. */
const longest = 48;
const shortest = 10;

/** A line for each. A bar of the value `full` has the whole length; default: the largest value. */
export function bars(
  rows: readonly Bar[],
  columns: number,
  full = Math.max(...rows.map(({ value }) => value)),
): string {
  const labelWidth = Math.max(0, ...rows.map(({ label }) => textWidth(label)));
  const saysWidth = Math.max(0, ...rows.map(({ says }) => textWidth(says)));
  const room = Math.max(shortest, Math.min(longest, columns - labelWidth - saysWidth - 6));
  return rows
    .map(({ label, value, says, paint }) => {
      const drawn = bar(full > 0 ? value / full : 0, room);
      const padding = " ".repeat(room - textWidth(drawn));
      return `  ${label.padEnd(labelWidth)}  ${paint(drawn)}${padding}  ${says.padStart(saysWidth)}\n`;
    })
    .join("");
}

/** Something that is not nothing has a bar that can be seen. */
function bar(share: number, room: number): string {
  const units = Math.min(room * 8, Math.max(share > 0 ? 1 : 0, Math.round(share * room * 8)));
  return "█".repeat(Math.floor(units / 8)) + (eighths[units % 8] ?? "");
}
