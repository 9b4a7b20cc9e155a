/**
 * Loads an archive and prints how many layers were unpacked and how many were there, the code of the error that ended it,
 * and the most memory held. Arguments: root, driver, archive.
 */
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { channels, type LayerEvent } from "../../src/store/channels.ts";
import { Store } from "../../src/store/store.ts";

const [root = "", driver = "", archive = ""] = process.argv.slice(2);
const counts = { unpacked: 0, exists: 0, exported: 0 };
channels.layer.subscribe((message) => {
  counts[(message as LayerEvent).event]++;
});
let error: string | undefined;
{
  await using store = await Store.open({ root, driver, durable: false });
  await store.load({ path: archive }).catch((failure: unknown) => {
    if (!(failure instanceof LamellaError)) throw failure;
    error = failure.code;
  });
}
process.stdout.write(JSON.stringify({ ...counts, error, peakBytes: process.resourceUsage().maxRSS * 1024 }));
