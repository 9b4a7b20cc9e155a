/**
 * The other process of the driver suite: opens a driver and does what it is told by its arguments, one word a line on its
 * standard output when it is ready.
 *
 *     hold NAME HOME ID     mounts the layer and keeps it mounted until a line comes in
 *     cycle NAME HOME ID    mounts and unmounts the layer many times, looking for the file `file` in it, and ends
 *     churn NAME HOME ID    makes and removes layers on top of ID until it is killed
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { newLayerId, parseLayerId } from "../drivers/layer-id.ts";
import { driverFactories } from "../drivers/open-driver.ts";

const [task, name, home, id] = process.argv.slice(2);
const driver = await driverFactories.get(name ?? "")?.open(home ?? "", {});
if (driver === undefined) throw new Error(`no driver ${name}`);
const layer = parseLayerId(id ?? "");

if (task === "hold") {
  await using _mounted = await driver.mount(layer);
  process.stdout.write("mounted\n");
  await once(process.stdin, "data");
  process.stdin.pause();
} else if (task === "cycle") {
  process.stdout.write("cycling\n");
  for (let i = 0; i < 40; i++) {
    await using mounted = await driver.mount(layer);
    if (readFileSync(`${mounted.path}/file`, "utf8") !== "x") throw new Error("the layer's file is wrong");
  }
} else {
  process.stdout.write("churning\n");
  for (;;) {
    const above = newLayerId();
    await driver.create(above, layer);
    const mounted = await driver.mount(above);
    await mounted[Symbol.asyncDispose]();
    await driver.remove(above);
  }
}
