/**
 * A file system, the class below, in fifty lines: `mkdir clock && node examples/clock-fs.mjs clock &`, then `cat clock/Europe-Paris`.
 * One file for each time zone, which is written anew whenever it is opened. Ctrl-C, or `umount clock`, ends it.
 */
import { resolve } from "node:path";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { mountFuse, ROOT_NODE, serve, unmountFuse } from "lamella/fuse";

const ENOENT = 2;
const DIRECTORY = 0o040555;
const FILE = 0o100444;
const DIRECT_IO = 1; // The kernel is to believe no size: content comes with the open.
const zones = Intl.supportedValuesOf("timeZone");
const names = zones.map((zone) => zone.replaceAll("/", "-"));

class ClockFileSystem {
  validSec = 3600;
  #opened = new Map();
  #lastHandle = 0;

  lookup(_parent, name) {
    const at = names.indexOf(name);
    return at < 0 ? -ENOENT : { node: at + 2, stat: this.getattr(at + 2) };
  }
  forget() {}
  getattr(node) {
    const now = Math.floor(Date.now() / 1000);
    const times = { mtimeSec: now, mtimeNsec: 0, ctimeSec: now, ctimeNsec: 0, atimeSec: now, atimeNsec: 0 };
    const owner = { uid: 0, gid: 0, nlink: 1, rdevMajor: 0, rdevMinor: 0, devMajor: 0, devMinor: 0 };
    return {
      ...times,
      ...owner,
      mode: node === ROOT_NODE ? DIRECTORY : FILE,
      size: 0,
      blocks: 0,
      inoLow: node,
      inoHigh: 0,
    };
  }
  open(node) {
    this.#opened.set(
      ++this.#lastHandle,
      Buffer.from(`${new Date().toLocaleString("en", { timeZone: zones[node - 2] })}\n`),
    );
    return { handle: this.#lastHandle, flags: DIRECT_IO };
  }
  read(handle, into, offset) {
    return this.#opened.get(handle).copy(into, 0, offset);
  }
  release(handle) {
    this.#opened.delete(handle);
  }
  readdir(_node, offset, sink) {
    for (let at = offset; at < names.length && sink.fits(names[at]); at++) {
      const stat = this.getattr(at + 2);
      if (sink.plus) sink.addEntry(names[at], at + 1, { node: at + 2, stat });
      else sink.add(names[at], at + 1, FILE >> 12, stat);
    }
    return 0;
  }
}

if (isMainThread) {
  const target = resolve(process.argv[2] ?? "clock");
  const device = mountFuse({ target, source: "clock", subtype: "clock", allowOther: false });
  new Worker(new URL(import.meta.url), { workerData: device.release() }); // It waits for the kernel; this thread hears signals.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => unmountFuse(target));
} else serve(workerData, new ClockFileSystem());
