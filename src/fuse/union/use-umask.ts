/** The umask by which the kernel makes new objects. It is the process's, and nothing else here makes any. */
import * as raw from "../../sys/raw.ts";

let present = -1;

/** Sets the umask for what is made next. */
export function useUmask(wanted: number): void {
  if (present === wanted) return;
  raw.umask(wanted);
  present = wanted;
}
