/** Colours, where they are wanted: on a terminal, unless NO_COLOR is set (https://no-color.org) or TERM is `dumb`. */
import { type Output, stderr, stdout } from "./output.ts";

export interface Style {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly cyan: (text: string) => string;
}

const sequence =
  (on: number, off: number) =>
  (text: string): string =>
    `\x1b[${on}m${text}\x1b[${off}m`;
const same = (text: string): string => text;

const plain: Style = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same };
const colored: Style = {
  bold: sequence(1, 22),
  dim: sequence(2, 22),
  red: sequence(31, 39),
  green: sequence(32, 39),
  yellow: sequence(33, 39),
  cyan: sequence(36, 39),
};

/** The style for what is printed on `output`. */
export function styleOf(output: Output): Style {
  const { NO_COLOR, TERM } = process.env;
  return !NO_COLOR && TERM !== "dumb" && output.isTTY ? colored : plain;
}

export const stdoutStyle = (): Style => styleOf(stdout);
export const stderrStyle = (): Style => styleOf(stderr);
