/**
 * When change times tell what changed: a stamp of the clock, taken at a moment to compare them with.
 *
 * No program can set an object's change time: the kernel sets it, from the clock. So what changed after a moment has a change
 * time after that moment, provided that the clock went forward all the time. A stamp holds what is needed to tell whether it
 * did.
 */

/** A moment on one file system's clock. Plain data; drivers keep it as JSON beside the layer. */
export interface ClockStamp {
  /** The file system's time of the moment. */
  readonly sec: number;
  readonly nsec: number;
  /** The steps in which the file system keeps change times. */
  readonly granularityNs: number;
  /** The boot (and time namespace) the stamp was taken in. */
  readonly boot: string;
  /** CLOCK_REALTIME − CLOCK_BOOTTIME: changes only when somebody sets the clock. */
  readonly offsetUs: number;
}
