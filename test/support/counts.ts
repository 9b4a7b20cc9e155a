/**
 * How often the driver suites do what is to be done often. Where each turn starts a process, a full count takes minutes, and
 * `npm test` makes fewer; with LAMELLA_TEST_FULL=1 each suite does what the contract promises: 128 layers on top of each other,
 * 1,000 made and removed.
 */
interface Counts {
  /** Length of the deep chain. */
  readonly depth?: number;
  /** Layers made and removed. */
  readonly cycles?: number;
}

/** These counts, or the full ones where those are asked for. */
export function counts(few: Counts): Counts {
  return process.env.LAMELLA_TEST_FULL === "1" ? { depth: 128, cycles: 1000 } : few;
}
