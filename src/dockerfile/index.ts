/** Dockerfiles and .dockerignore files: parsing, variable expansion, matching, lint. Reads text, touches no file. */
export type * from "./ast.ts";
export { DockerfileError, didYouMean, type LineRange } from "./dockerfile-error.ts";
export { durationNs } from "./duration.ts";
export { type ExpandOptions, expand, expandWords, type VariableLookup, variablesOf } from "./expand.ts";
export {
  copySourceStage,
  type ExpandInstructionOptions,
  expandInstruction,
  type RunScript,
  runScriptOf,
} from "./expand-instruction.ts";
export { compileGlob, hasGlob, matchGlob, type PathMatcher, unescapeGlob } from "./glob.ts";
export { type IgnoreMatcher, type IgnorePattern, parseIgnore } from "./ignore.ts";
export { type LintWarning, lintDockerfile } from "./lint.ts";
export { type ParseOptions, parseDockerfile, parseInstruction } from "./parse.ts";
export { parsePorts } from "./ports.ts";
