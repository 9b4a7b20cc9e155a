/**
 * The other process of the driver suite: opens a driver and does what it is told by its arguments, one word a line on its
 * standard output when it is ready.
 *
 *     hold NAME HOME ID     mounts the layer and keeps it mounted until a line comes in
 *     churn NAME HOME ID    makes and removes layers on top of ID until it is killed
 */
import { once } from "node:events";
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
