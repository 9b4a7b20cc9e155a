/** Makes five layers with a limit, in the home it is given. */
import { newLayerId } from "../../../src/drivers/layer-id.ts";
import { driverFactories } from "../../../src/drivers/open-driver.ts";

const [name = "", home = ""] = process.argv.slice(2);
const driver = await driverFactories.get(name)?.open(home, {});
if (driver === undefined) throw new Error(`no driver ${name}`);
for (let i = 0; i < 5; i++) await driver.create(newLayerId(), undefined, { sizeBytes: 1 << 20 });
