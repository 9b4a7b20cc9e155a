/** Markup: text from elsewhere is escaped, unless it says that it is markup. */

export class Html {
  readonly text: string;

  /** `text` is markup, and safe. */
  constructor(text: string) {
    this.text = text;
  }
}

export type HtmlValue = string | number | Html | readonly Html[];

/** A template of markup; values that are no {@link Html} are escaped. */
export function html(parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(parts.map((part, i) => part + (i < values.length ? textOf(values[i] ?? "") : "")).join(""));
}

function textOf(value: HtmlValue): string {
  if (value instanceof Html) return value.text;
  if (typeof value === "object") return value.map(({ text }) => text).join("");
  return String(value).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
}
