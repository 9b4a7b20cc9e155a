/** Port numbers of EXPOSE. */
import { LamellaError } from "../errors/lamella-error.ts";

/**
 * Expands `80`, `53/udp`, `8000-8003/tcp` to the config's form, `80/tcp`, sorted, without duplicates. Throws
 * `invalid_argument` (INVALID_PORT).
 */
export function parsePorts(words: readonly string[]): string[] {
  const ports = new Set<string>();
  for (const word of words) {
    const [, first = "", last = first, protocol = "tcp"] =
      /^([0-9]{1,5})(?:-([0-9]{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(word) ?? [];
    const from = Number(first);
    const to = Number(last);
    if (first === "" || to > 65535 || from > to) {
      throw new LamellaError("invalid_argument", "INVALID_PORT", `invalid port ${JSON.stringify(word.slice(0, 100))}`, {
        hint: "write PORT[-PORT][/tcp|/udp|/sctp], with ports up to 65535",
      });
    }
    for (let port = from; port <= to; port++) ports.add(`${port}/${protocol.toLowerCase()}`);
  }
  return [...ports].sort();
}
