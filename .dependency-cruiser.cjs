// The import order of docs/architecture.md: a folder imports only from folders above it; siblings on one line never
// import each other; koffi is imported in src/sys alone; printing and process state belong to src/cli.
const lines = [
  ["lib"],
  ["errors"],
  ["oci", "tar", "dockerfile", "profile"],
  ["sys"],
  ["fs"],
  ["overlayfs"],
  ["diff"],
  ["drivers"],
  ["store"],
  ["migrate"],
  ["registry", "build", "fuse", "doctor", "bench"],
  ["engine"],
  ["serve"],
  ["cli"],
  ["testing"],
];

const forbidden = [
  { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
  {
    name: "koffi-in-sys-alone",
    severity: "error",
    from: { pathNot: "^src/sys/" },
    to: { path: "node_modules/(koffi|@koromix)" },
  },
  {
    name: "no-test-imports",
    severity: "error",
    from: { pathNot: "\\.test\\.ts$" },
    to: { path: "\\.test\\.ts$" },
  },
];

for (let i = 0; i < lines.length; i++) {
  for (const folder of lines[i]) {
    const allowed = [folder, ...lines.slice(0, i).flat()].filter((f) => folder !== "testing" || f !== "cli");
    forbidden.push({
      name: `order-${folder}`,
      severity: "error",
      from: { path: `^src/${folder}/`, pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: `^src/(${allowed.join("|")})/` },
    });
  }
}

module.exports = {
  forbidden,
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    tsConfig: { fileName: "tsconfig.json" },
  },
};
