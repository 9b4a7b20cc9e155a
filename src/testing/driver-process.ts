/**
 * The other process of the driver suite: opens a driver and does what it is told by its arguments, one word a line on its
 * standard output when it is ready.
 *
 *     hold NAME HOME OPTIONS ID           mounts the layer and keeps it mounted until a line comes in
 *     cycle NAME HOME OPTIONS ID          mounts and unmounts the layer many times, looking for the file `file` in it, and ends
 *     churn NAME HOME OPTIONS ID TAR      makes layers on top of ID, applies TAR to them and removes them until it is killed
 *
 * OPTIONS are the driver's, as JSON.
 */
import { once } from "node:events";
import { readFileSync, statSync } from "node:fs";
import { applyLayer } from "../diff/apply-layer.ts";
import { newLayerId, parseLayerId } from "../drivers/layer-id.ts";
import { driverFactories } from "../drivers/open-driver.ts";

const [task, name, home, options, id, tar] = process.argv.slice(2);
const driver = await driverFactories.get(name ?? "")?.open(home ?? "", JSON.parse(options ?? "{}"));
if (driver === undefined) throw new Error(`no driver ${name}`);
const layer = parseLayerId(id ?? "");

if (task === "hold") {
  const mounted = await driver.mount(layer);
  process.stdout.write("mounted\n");
  await once(process.stdin, "data");
  process.stdin.pause();
  await mounted[Symbol.asyncDispose]();
  await driver.rest();
} else if (task === "cycle") {
  process.stdout.write("cycling\n");
  for (let i = 0; i < 40; i++) {
    await using mounted = await driver.mount(layer);
    if (readFileSync(`${mounted.path}/file`, "utf8") !== "x") throw new Error("the layer's file is wrong");
  }
  await driver.rest();
} else {
  process.stdout.write("churning\n");
  const file = tar ?? "";
  const length = statSync(file).size;
  for (;;) {
    const above = newLayerId();
    await driver.create(above, layer);
    {
      const recordPath = `${file}.${process.pid}`;
      await using target = await driver.applyTarget(above);
      await applyLayer({
        target: target.value,
        tar: { file, offset: 0, length },
        recordPath,
        spillDir: `${recordPath}.spill`,
      });
    }
    const mounted = await driver.mount(above);
    await mounted[Symbol.asyncDispose]();
    await driver.remove(above);
  }
}
