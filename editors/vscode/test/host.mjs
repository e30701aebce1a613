// Runs the suite in test/host inside the real extension host: extensionDevelopmentPath and
// extensionTestsPath, as VS Code's own test runner does, through the workbench.
import fs from 'node:fs';
import path from 'node:path';
import { address, binary, bundle, extension, openBrowser, out, remote, startServer, workspace } from './bed.mjs';

const results = path.join(out, 'host.txt');
fs.rmSync(results, { force: true });
bundle();
const folder = workspace();
const sightline = binary();
const server = await startServer({
  sightline,
  args: ['--enable-smoke-test-driver'], // else a built workbench ignores the test's paths, silently
  env: { SIGHTLINE_RESULTS: results, ...(process.env.MATCH ? { MATCH: process.env.MATCH } : {}) },
  more: { 'sightline.server.path': sightline },
});
const { page, close, outside } = await openBrowser();
let code = 1;
try {
  const done = new Promise((resolve, reject) => {
    page.exposeFunction('codeAutomationExit', (c) => resolve(c));
    setTimeout(() => reject(new Error('the suite did not end')), 740_000).unref();
  });
  await page.exposeFunction('codeAutomationLog', (type, args) => { if (process.env.VERBOSE || type === 'error') console.log(...args); });
  await page.goto(address(server.port, folder, [
    ['extensionDevelopmentPath', remote(server.port, extension)],
    ['extensionTestsPath', remote(server.port, path.join(out, 'host.js'))],
  ]));
  code = await done;
} catch (err) {
  console.error(err.message);
} finally {
  await page.screenshot({ path: path.join(out, 'host.png') }).catch(() => {});
  if (outside.size > 0) { console.error('asked for outside hosts:', [...outside]); code = 1; }
  await close();
  await server.stop().catch((err) => { console.error(err.message); code = 1; });
}
if (!fs.existsSync(results)) {
  console.error(`the suite did not run: ${code}\n${server.log().slice(-2000)}`);
  process.exit(1);
}
console.log(fs.readFileSync(results, 'utf8').trim());
process.exit(code ? 1 : 0);
