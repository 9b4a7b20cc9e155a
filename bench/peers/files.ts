/**
 * Works on files for the benchmarks of union file systems. Each line of input is one:
 *   `stat PATH TIMES`                      lstat of one path
 *   `lookup DIRECTORY FROM TO FILES`       lstat of `d<i>/file-<j>` once each, i from FROM to TO, j below FILES
 *   `create DIRECTORY FILES`               makes as many files, each of one line
 * The answer is how many.
 */
import { lstatSync, mkdirSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

function stat(path: string, times: number): number {
  for (let i = 0; i < times; i++) lstatSync(path);
  return times;
}

function lookup(directory: string, from: number, to: number, files: number): number {
  for (let d = from; d < to; d++) for (let f = 0; f < files; f++) lstatSync(`${directory}/d${d}/file-${f}`);
  return (to - from) * files;
}

function create(directory: string, files: number): number {
  mkdirSync(directory);
  for (let f = 0; f < files; f++) writeFileSync(`${directory}/file-${f}`, "a line of text\n");
  return files;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [task, path = "", ...numbers] = line.split(" ");
  const [a = 0, b = 0, c = 0] = numbers.map(Number);
  if (task === "stat") console.log(stat(path, a));
  else if (task === "lookup") console.log(lookup(path, a, b, c));
  else console.log(create(path, a));
}
