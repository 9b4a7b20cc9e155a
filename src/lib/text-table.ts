/** Tables of text as Docker prints them: columns padded with spaces, three between them, none at a line's end. */

export interface TableOptions {
  /** Columns, by index, whose cells are flush right. */
  readonly right?: readonly number[];
  /** Spaces between columns. */
  readonly gap?: number;
}

/** The lines of a table, joined by newlines and ending with one. The first row usually is the head. */
export function textTable(rows: readonly (readonly string[])[], options: TableOptions = {}): string {
  const { right = [], gap = 3 } = options;
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, textWidth(cell));
  }
  const lines = rows.map((row) =>
    row
      .map((cell, i) => {
        const padding = " ".repeat((widths[i] ?? 0) - textWidth(cell));
        return right.includes(i) ? padding + cell : cell + padding;
      })
      .join(" ".repeat(gap))
      .trimEnd(),
  );
  return lines.map((line) => `${line}\n`).join("");
}

/** The number of terminal columns of a text without wide characters; colour sequences count nothing. */
export function textWidth(text: string): number {
  return [...text.replace(/\x1b\[[0-9;]*m/g, "")].length;
}
