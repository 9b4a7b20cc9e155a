/** File modes as `ls -l` prints them. */
import type { FileType } from "../engine/look-into.ts";

const typeLetters: Readonly<Record<FileType, string>> = {
  file: "-",
  directory: "d",
  symlink: "l",
  block: "b",
  character: "c",
  fifo: "p",
  socket: "s",
};

/** `drwxr-xr-t`. */
export function modeString(type: FileType, mode: number): string {
  const triple = (shift: number, special: boolean, letter: string): string => {
    const execute = ((mode >> shift) & 1) === 1;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return `${(mode >> shift) & 4 ? "r" : "-"}${(mode >> shift) & 2 ? "w" : "-"}${last}`;
  };
  return (
    typeLetters[type] +
    triple(6, (mode & 0o4000) !== 0, "s") +
    triple(3, (mode & 0o2000) !== 0, "s") +
    triple(0, (mode & 0o1000) !== 0, "t")
  );
}
