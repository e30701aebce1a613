// Runs the extension's tests.
//
//   node test/run.mjs [unit] [host] [ui] [oldest] [bench]     default: unit host ui
//
// unit: what needs no editor. host: mocha inside the real extension host. ui: the workbench as a
// person uses it. oldest: the same as host, in the oldest VS Code that the extension says it runs in, which
// test/setup oldest gets. bench prints latencies. MATCH=text runs only the tests whose title has it; SHOTS=1
// keeps the pictures that docs/ shows.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { bed, binary, bundle, extension, out, standin, vsix } from './bed.mjs';

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
const scripts = { unit: 'unit.mjs', host: 'host.mjs', ui: 'ui.mjs', oldest: 'host.mjs', bench: 'bench.mjs' };
for (const kind of kinds) {
  if (scripts[kind]) continue;
  console.error(`no kind of test ${kind}; use unit, host, ui, oldest or bench`);
  process.exit(2);
}
if (kinds.some((kind) => kind !== 'unit')) {
  bundle();
  const server = binary();
  if (kinds.includes('ui')) {
    vsix(server);
    standin();
  }
}

/** runs runs one kind of test and says how it went. What it says comes at once at its end, so that kinds can run side by side. */
function runs(kind) {
  const begin = Date.now();
  return new Promise((resolve) => {
    const child = spawn(found.node, [path.join(import.meta.dirname, scripts[kind])], {
      stdio: ['ignore', 'pipe', 'pipe'], timeout: 760_000, env: { ...process.env, SIGHTLINE_PREPARED: '1', ...(kind === 'oldest' ? { OLDEST: '1' } : {}) },
    });
    let said = '';
    for (const from of [child.stdout, child.stderr]) from.on('data', (b) => { if (process.env.VERBOSE) process.stdout.write(b); else said += b; });
    child.on('close', (code) => {
      console.log(`${said}${code === 0 ? 'ok' : 'FAIL'} ${kind} ${((Date.now() - begin) / 1000).toFixed(1)} s`);
      resolve(code === 0);
    });
  });
}

// The editors mostly wait, so they do it together; a benchmark is alone.
const together = kinds.filter((kind) => kind === 'host' || kind === 'ui');
let good = true;
for (const kind of kinds.filter((k) => !together.includes(k))) good = await runs(kind) && good;
const results = await Promise.all(together.map(runs));
process.exit(good && results.every(Boolean) ? 0 : 1);
