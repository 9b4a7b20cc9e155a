/** Durations as Go writes them: `1h2m3.5s`, `100ms`. */

const unitsNs: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** `text` in nanoseconds; undefined when it is no duration, is negative, or is longer than 100 days. */
export function durationNs(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^\+?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/([0-9.]+)([a-zµμ]+)/g)) {
    total += Number(amount) * (unitsNs[unit] ?? Number.NaN);
  }
  const rounded = Math.trunc(total);
  return rounded <= 100 * 24 * 3600e9 ? rounded : undefined;
}
