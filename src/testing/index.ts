/** Conformance suites: what every storage driver must do, as tests of node:test that any implementation can run. */
export { type DriverSuiteOptions, testDriver } from "./driver-suite.ts";
export { listTree } from "./tree-listing.ts";
