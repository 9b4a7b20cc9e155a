/** Text broken into lines for a terminal. */

/** Breaks at spaces; the first line begins with `label`, the others are indented as far. */
export function wrapText(text: string, columns: number, label: string): string[] {
  const lines: string[] = [];
  let line = label.trimEnd();
  let isEmpty = true;
  for (const word of text.split(" ")) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = "";
      isEmpty = true;
    }
    line = isEmpty ? `${line.padEnd(label.length)}${word}` : `${line} ${word}`;
    isEmpty = false;
  }
  return [...lines, line];
}
