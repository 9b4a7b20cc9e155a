// Lets Node run the TypeScript sources, in worker threads too: preload with --import.
import { register } from "tsx/esm/api";

register();
