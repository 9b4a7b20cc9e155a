/** Conformance suites: what every storage driver must do, as tests of node:test that any implementation can run. */
export { testDriver } from "./driver-suite.ts";
export type { DriverSuiteOptions, Lack } from "./driver-suite-options.ts";
export { listTree } from "./tree-listing.ts";
