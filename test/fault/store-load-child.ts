/** Loads an archive and prints how many layers were unpacked and how many were there. Arguments: root, driver, archive. */
import { channels, type LayerEvent } from "../../src/store/channels.ts";
import { Store } from "../../src/store/store.ts";

const [root = "", driver = "", archive = ""] = process.argv.slice(2);
const counts = { unpacked: 0, exists: 0, exported: 0 };
channels.layer.subscribe((message) => {
  counts[(message as LayerEvent).event]++;
});
{
  await using store = await Store.open({ root, driver, durable: false });
  await store.load({ path: archive });
}
process.stdout.write(JSON.stringify(counts));
