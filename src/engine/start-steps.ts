/** Starts what `build` and `run` need while the engine itself is still being loaded; see EngineOptions.forSteps. */
export { startStepThread } from "../build/step-pool.ts";
