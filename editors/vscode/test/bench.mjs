// Prints what the editor adds: the time from a test's end to its first numbers, and what the extension
// does for each key in a large file with numbers on every line. Budgets: 500 ms and 16 ms.
import fs from 'node:fs';
import path from 'node:path';
import { address, binary, bundle, extension, openBrowser, out, remote, startServer, workspace } from './bed.mjs';

const results = path.join(out, 'bench.json');
fs.rmSync(results, { force: true });
execFileSync(process.execPath, ['esbuild.mjs', '--production'], { cwd: extension, stdio: 'inherit' });
const folder = workspace();
const server = await startServer({ args: ['--enable-smoke-test-driver'], env: { SIGHTLINE_RESULTS: results }, more: { 'sightline.server.path': binary(), 'sightline.hints.threshold': 0 } });
const { page, close } = await openBrowser();
try {
  const done = new Promise((resolve, reject) => {
    page.exposeFunction('codeAutomationExit', resolve);
    setTimeout(() => reject(new Error('the benchmark did not end')), 560_000).unref();
  });
  await page.exposeFunction('codeAutomationLog', (type, args) => { if (process.env.VERBOSE || type === 'error') console.error(...args); });
  await page.goto(address(server.port, folder, [
    ['extensionDevelopmentPath', remote(server.port, extension)],
    ['extensionTestsPath', remote(server.port, path.join(out, 'bench.js'))],
  ]));
  await done;
} finally {
  await close();
  await server.stop();
}
if (!fs.existsSync(results)) {
  console.error('the benchmark did not run');
  process.exit(1);
}
const rows = JSON.parse(fs.readFileSync(results, 'utf8'));
for (const r of rows) console.log(`${r.what.padEnd(58)} ${r.value.toFixed(2).padStart(8)} ms   budget ${r.budget} ms   ${r.value <= r.budget ? 'met' : 'MISSED'}`);
