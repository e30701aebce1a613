// Runs the extension's tests.
//
//   node test/run.mjs [unit] [host] [ui] [oldest] [bench]     default: unit host ui
//
// unit: what needs no editor. host: mocha inside the real extension host. ui: the workbench as a
// person uses it. oldest: the same as host, in the oldest VS Code that the extension says it runs in, which
// test/setup oldest gets. bench prints latencies. MATCH=text runs only the tests whose title has it; SHOTS=1
// keeps the pictures that docs/ shows.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { bed, extension, out } from './bed.mjs';

const kinds = process.argv.slice(2).length > 0 ? process.argv.slice(2) : ['unit', 'host', 'ui'];
const found = bed('env');
if (!found || (kinds.includes('oldest') && !bed('env-oldest'))) {
  console.error(`The test bed is not set up: run editors/vscode/test/setup${found ? ' oldest' : ''}`);
  process.exit(3);
}
fs.mkdirSync(out, { recursive: true });
const { build } = await import('esbuild');
await build({
  absWorkingDir: extension, bundle: true, platform: 'node', format: 'cjs', target: 'node20', logLevel: 'warning', sourcemap: 'inline',
  external: ['vscode', 'mocha'], outdir: out,
  entryPoints: [{ in: 'test/unit/index.ts', out: 'unit' }, { in: 'test/host/index.ts', out: 'host' }, { in: 'test/host/bench.ts', out: 'bench' }],
});
let failed = false;
for (const kind of kinds) {
  const script = { unit: 'unit.mjs', host: 'host.mjs', ui: 'ui.mjs', oldest: 'host.mjs', bench: 'bench.mjs' }[kind];
  if (!script) {
    console.error(`no kind of test ${kind}; use unit, host, ui, oldest or bench`);
    process.exit(2);
  }
  const begin = Date.now();
  const r = spawnSync(found.node, [path.join(import.meta.dirname, script)], {
    stdio: 'inherit', timeout: 760_000, env: { ...process.env, ...(kind === 'oldest' ? { OLDEST: '1' } : {}) },
  });
  console.log(`${r.status === 0 ? 'ok' : 'FAIL'} ${kind} ${((Date.now() - begin) / 1000).toFixed(1)} s`);
  failed ||= r.status !== 0;
}
process.exit(failed ? 1 : 0);
