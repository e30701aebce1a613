// The workbench as a person uses it: the packaged extension with its own server, in a browser. Takes
// the pictures that docs/ shows (SHOTS=1 keeps them there).
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { address, binary, openBrowser, out, remote, root, standin, startServer, until, vsix, workspace } from './bed.mjs';

const begin = Date.now();
const folder = workspace();
const source = fs.readFileSync(path.join(folder, 'accesslog.go'), 'utf8').split('\n');
const lineOf = (text) => source.findIndex((l) => l.includes(text)) + 1;
const compileLine = lineOf('regexp.MustCompile');

const sightline = binary();
const packaged = vsix(sightline);
let server = await startServer({ sightline, install: [packaged, standin()] });
const { page, close, outside } = await openBrowser();
const problems = [];
page.on('console', (m) => { if (m.type() === 'error' && /sightline/i.test(m.text())) problems.push(m.text()); });

let failures = 0, current = '';
async function step(name, run) {
  if (process.env.MATCH && !/^(opens|profile:|restricted: opens)/.test(name) && !name.includes(process.env.MATCH)) return;
  current = name;
  const t = Date.now();
  try {
    await run();
    console.log(`ok   ${name} (${Date.now() - t} ms)`);
  } catch (err) {
    failures++;
    console.log(`FAIL ${name}\n     ${String(err.stack ?? err).replaceAll('\n', '\n     ')}`);
    await page.screenshot({ path: path.join(out, `fail-${failures}.png`) }).catch(() => {});
  }
}

const plain = (s) => s.replaceAll('\u00a0', ' ');
/** costs are the numbers at the ends of the lines that can be seen: CSS draws them, so no text has them. */
const costs = () => page.evaluate(() => [...document.querySelectorAll('.editor-instance .view-line')].flatMap((line) => {
  const after = [...line.querySelectorAll('span')].map((s) => getComputedStyle(s, '::after').content).find((c) => c && c !== 'none' && c !== 'normal' && /\d/.test(c));
  return after ? [[line.textContent.replaceAll('\u00a0', ' ').trim(), after.replace(/^"|"$/g, '').replaceAll('\u00a0', ' ')]] : [];
}));
const costOf = async (text) => (await costs()).find(([line]) => line.includes(text))?.[1];
const keys = async (...all) => { for (const k of all) await page.keyboard.press(k); };
/** insist tries again what a list that closes meanwhile makes fail, by taking the focus along. */
async function insist(action) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await action();
    } catch (err) {
      if (attempt === 3) throw err;
      await keys('Escape');
    }
  }
}
async function command(title) {
  await insist(async () => {
    await page.keyboard.press('F1');
    const input = page.locator('.quick-input-widget:visible input[type="text"]').first();
    await input.waitFor({ timeout: 10_000 });
    await input.fill(`>${title}`, { timeout: 5000 });
    // The exact one: what was used last stands first.
    await page.locator(`.quick-input-list .monaco-list-row:is([aria-label="${title}"], [aria-label^="${title}, "])`).first().click({ timeout: 10_000 });
  });
}
async function openFile(name, line = 1) {
  await insist(async () => {
    await page.keyboard.press('Control+P');
    const input = page.locator('.quick-input-widget:visible input[type="text"]').first();
    await input.waitFor({ timeout: 10_000 });
    await input.fill(`${name}:${line}`, { timeout: 5000 });
    await until(`${name} in the list`, async () => (await page.locator('.quick-input-list .monaco-list-row').first().innerText({ timeout: 1000 })).startsWith(name), 15_000);
    await page.keyboard.press('Enter');
    await until(`the tab of ${name}`, () => page.locator('.tab.active', { hasText: name }).count(), 20_000);
    await until(`the cursor in line ${line}`, async () => await position() === line, 20_000);
  });
}
/** position is the line of the cursor in the text editor, which need not have the focus. */
const position = async () => Number(await page.locator('.editor-instance .line-numbers.active-line-number').first().innerText({ timeout: 3000 }));
const cursorAt = (line) => until(`the cursor in line ${line}`, async () => await position() === line);
const toast = (text) => page.locator('.notifications-toasts .notification-toast', { hasText: text });
const status = () => page.locator('#sightline-dev\\.sightline\\.sightline\\.status, [id$="sightline.status"]').first();
async function shot(name, clip, stay) {
  if (!stay) await page.mouse.move(700, 768);
  await page.evaluate(() => document.activeElement?.blur?.());
  await new Promise((resolve) => setTimeout(resolve, 400));
  const file = path.join(process.env.SHOTS ? path.join(root, 'docs') : out, `vscode-${name}.png`);
  await page.screenshot({ path: file, ...(clip ? { clip } : {}) });
  const size = fs.statSync(file).size;
  assert.ok(size <= 200_000, `${file} has ${size} bytes`);
}
const closeToasts = () => command('Notifications: Clear All Notifications');
const flame = () => page.frameLocator('iframe.webview').last().frameLocator('iframe');

try {
  await step('opens a Go test with a lens on each test', async () => {
    await page.goto(address(server.port, folder, [['openFile', remote(server.port, path.join(folder, 'accesslog_test.go'))]]));
    await page.waitForSelector('.monaco-editor .view-line', { timeout: 120_000 });
    await until('lenses', async () => await page.locator('.codelens-decoration a', { hasText: 'profile' }).count() >= 3);
    assert.match(await status().innerText(), /Sightline/);
  });

  await step('profile: click, progress, result', async () => {
    await page.locator('.codelens-decoration a', { hasText: 'profile' }).first().click();
    await toast('Profiling TestPages').waitFor({ timeout: 120_000 });
    await until('samples in the status bar', async () => /\d s · .*samples/.test(plain(await status().innerText())));
    await until('the lens to say so', async () => /recording…/.test(plain(await page.locator('.codelens-decoration a').allInnerTexts().then((t) => t.join()))), 5000).catch(() => {});
    await page.screenshot({ path: path.join(out, 'vscode-recording.png') });
    await toast(/TestPages: .* samples in .*hottest accesslog\.go:/).waitFor({ timeout: 120_000 });
    await until('an idle status bar', async () => !/record|samples/.test(await status().innerText()));
    await until('costs in the test', async () => (await costs()).length > 0);
  });

  await step('costs at line ends, lenses, hover', async () => {
    await closeToasts();
    await openFile('accesslog.go', 1);
    await openFile('accesslog.go', lineOf('func Parse'));
    const text = await until('the cost of the hot line', () => costOf('regexp.MustCompile'));
    assert.match(text, /^\d+\.\d% · [\d.]+ m?s$/);
    await until('lenses', async () => (await page.locator('.codelens-decoration a').allInnerTexts()).some((t) => /^total \d/.test(plain(t))));
    // The text begins three characters behind the line's end.
    const hot = page.locator('.view-line', { hasText: 'MustCompile' }).first();
    const word = hot.locator('span', { hasText: 'MustCompile' }).last();
    await word.hover();
    const hover = page.locator('.monaco-hover:visible', { hasText: `accesslog.go:${compileLine}` });
    await hover.first().waitFor({ timeout: 120_000 });
    await page.waitForTimeout(500);
    assert.match(await hover.first().innerText(), /Called by[\s\S]*Calls/);
    await page.screenshot({ path: path.join(out, 'vscode-hover.png') });
    await keys('Escape');
  });

  await step('numbers follow edits; undo brings them back', async () => {
    const before = await costOf('regexp.MustCompile');
    await openFile('accesslog.go', compileLine);
    await keys('End', 'Enter');
    await page.keyboard.type('// a new line');
    await until('the number on its line', async () => await costOf('regexp.MustCompile') === before);
    assert.equal(await costOf('// a new line'), undefined);
    await keys('Control+Z', 'Control+Z', 'Control+Z');
    await openFile('accesslog.go', compileLine);
    await keys('End');
    await page.keyboard.type(' // changed: é𝄞');
    await until('no number on the changed line', async () => await costOf('regexp.MustCompile') === undefined);
    await until('a stale status', async () => /stale/.test(await status().innerText()));
    const hot = page.locator('.view-line', { hasText: 'MustCompile' }).first();
    await until('the text as it was', async () => plain(await hot.innerText()).trim() === source[compileLine - 1].trim() || keys('Control+Z'));
    await until('the number again', async () => await costOf('regexp.MustCompile') === before);
    await command('File: Revert File');
    await until('the number', async () => await costOf('regexp.MustCompile') === before);
  });

  await step('numbers of folded code', async () => {
    await openFile('accesslog.go', lineOf('func Parse'));
    const before = await costOf('regexp.MustCompile');
    await command('Fold All');
    await until('the line to be folded away', async () => await page.locator('.view-line', { hasText: 'MustCompile' }).count() === 0);
    assert.equal(await costOf('regexp.MustCompile'), undefined);
    await command('Unfold All');
    await until('the number', async () => await costOf('regexp.MustCompile') === before);
  });

  await step('tree of hot paths: expand, click, land on the line', async () => {
    await page.locator('.activitybar a[aria-label="Sightline"]').first().click();
    await page.mouse.move(350, 500); // room for names and numbers
    await page.mouse.down();
    await page.mouse.move(430, 500, { steps: 4 });
    await page.mouse.up();
    const tree = page.locator('.pane', { hasText: 'Hot Paths' }).first();
    await tree.locator('.monaco-list-row').first().waitFor({ timeout: 120_000 });
    await tree.hover();
    await tree.locator('a[aria-label="Expand the Hottest Path"]').first().click();
    const row = tree.locator('.monaco-list-row', { hasText: 'accesslog.Parse' }).first();
    await row.waitFor({ timeout: 120_000 });
    await row.click();
    await cursorAt(lineOf('func Parse'));
    const rows = await page.locator('.pane', { hasText: 'Captures' }).last().locator('.monaco-list-row').allInnerTexts();
    assert.ok(rows.some((t) => t.includes('TestPages')), rows.join(' | '));
  });

  await step('pictures of the editor, dark', async () => {
    await openFile('accesslog.go', 1);
    await openFile('accesslog.go', lineOf('// Pages sums') - 2);
    await shot('dark');
  });

  await step('hottest functions with preview', async () => {
    await command('Sightline: Show Hottest Functions…');
    const row = page.locator('.quick-input-list .monaco-list-row', { hasText: 'accesslog.clean' }).first();
    await row.waitFor();
    await page.keyboard.type('clean');
    await until('the preview', async () => await position() === lineOf('func clean'));
    await page.screenshot({ path: path.join(out, 'vscode-hottest.png') });
    await keys('Enter');
    await until('the list to close', async () => !await page.locator('.quick-input-widget').isVisible());
    await cursorAt(lineOf('func clean'));
  });

  await step('callers and callees of the function at the cursor', async () => {
    await openFile('accesslog.go', compileLine);
    await command('Sightline: Show Callers of the Function at the Cursor…');
    await page.locator('.quick-input-list .monaco-list-row', { hasText: 'Pages' }).first().waitFor();
    await page.screenshot({ path: path.join(out, 'vscode-callers.png') });
    await keys('Enter');
    await until('the list to close', async () => !await page.locator('.quick-input-widget').isVisible());
    await cursorAt(lineOf('func Pages'));
  });

  await step('flame graph: search, zoom, click to the source and back', async () => {
    await openFile('accesslog.go', compileLine);
    await command('Sightline: Show Flame Graph');
    const canvas = flame().locator('#canvas');
    await canvas.waitFor({ timeout: 120_000 });
    const where = (name) => canvas.evaluate((_, n) => globalThis.sightlineWhere(n), name);
    await until('boxes', () => where('accesslog.Parse'));
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(out, 'vscode-flame.png') });
    const at = await where('accesslog.Parse');
    await canvas.hover({ position: at });
    await flame().locator('#tip .name', { hasText: 'accesslog.Parse' }).waitFor();
    await canvas.click({ position: at });
    await cursorAt(lineOf('func Parse'));
    await flame().locator('#search').fill('regexp');
    await until('matches', async () => /\d+ boxes/.test(await flame().locator('#matches').innerText()));
    await page.screenshot({ path: path.join(out, 'vscode-search.png') });
    await flame().locator('#search').fill('');
    await canvas.dblclick({ position: await where('regexp.MustCompile') });
    await until('the zoom', async () => await flame().locator('#reset').isEnabled());
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(out, 'vscode-zoom.png') });
    await flame().locator('#reset').click();
    await until('the whole', async () => !await flame().locator('#reset').isEnabled());
    await command('View: Toggle Primary Side Bar Visibility');
    await until('boxes', () => where('regexp.MustCompile'));
    await page.waitForTimeout(500);
    await canvas.hover({ position: await where('regexp.MustCompile') });
    await page.waitForTimeout(300);
    await shot('flame-dark', undefined, true);
    // From the source: the function at the cursor is found.
    await page.locator('.view-line', { hasText: 'MustCompile' }).first().click();
    await command('Sightline: Show Function in the Flame Graph');
    await flame().locator('#status', { hasText: 'accesslog.Parse' }).waitFor({ timeout: 120_000 });
  });

  await step('pictures of the flame graph and the editor, light', async () => {
    await command('Preferences: Toggle between Light/Dark Themes');
    await page.waitForSelector('.monaco-workbench.vs', { timeout: 120_000 });
    await page.waitForTimeout(500);
    const canvas = flame().locator('#canvas');
    await canvas.hover({ position: await canvas.evaluate((_, n) => globalThis.sightlineWhere(n), 'regexp.MustCompile') });
    await page.waitForTimeout(300);
    await shot('flame-light', undefined, true);
    await command('View: Toggle Primary Side Bar Visibility');
    await command('View: Close All Editors');
    await openFile('accesslog.go', 1);
    await openFile('accesslog.go', lineOf('// Pages sums') - 2);
    await until('costs', () => costOf('regexp.MustCompile'));
    await shot('light');
  });

  await step('doctor', async () => {
    await command('Sightline: Doctor: What Can Be Recorded Here');
    await page.frameLocator('iframe.webview').last().frameLocator('iframe').locator('h1').waitFor({ timeout: 120_000 });
    await page.waitForTimeout(500);
    await page.screenshot({ path: path.join(out, 'vscode-doctor.png') });
    await command('View: Close Editor');
  });

  await step('the page of a process: what its memory is, and the lines behind it', async () => {
    execFileSync('go', ['build', '-o', path.join(folder, 'held', 'held'), './held'], { cwd: folder });
    const held = spawn(path.join(folder, 'held', 'held'), { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await new Promise((resolve) => held.stdout.once('data', resolve));
      await openFile('accesslog.go', 1);
      await command('Sightline: Inspect Process…');
      const input = page.locator('.quick-input-widget:visible input[type="text"]').first();
      await input.waitFor();
      await input.fill(`${held.pid}`);
      await page.locator('.quick-input-list .monaco-list-row', { hasText: `${held.pid}` }).first().click({ timeout: 60_000 });
      const view = page.frameLocator('iframe.webview').last().frameLocator('iframe');
      const started = view.locator('#stacks button', { hasText: '100 goroutines' });
      await started.waitFor({ timeout: 120_000 });
      await until('kinds', async () => await view.locator('#kind-bar span').count() >= 4 && await view.locator('#kinds tbody tr').count() >= 5);
      assert.match(await view.locator('#terms').innerText(), /live objects[\s\S]*about 2\d\.\d MiB in 2\d objects by main\.load/);
      await command('View: Toggle Primary Side Bar Visibility');
      await page.waitForTimeout(3000); // some values over time
      await shot('process-dark', await page.locator('.editor-group-container').last().boundingBox(), true);
      await started.click();
      const text = fs.readFileSync(path.join(folder, 'held', 'main.go'), 'utf8').split('\n');
      await until('the tab of the source', () => page.locator('.tab', { hasText: 'main.go' }).count());
      await cursorAt(text.findIndex((l) => l.includes('go wait')) + 1);
      await page.locator('.squiggly-info').first().waitFor({ timeout: 120_000 }); // the stacks are a diagnostic
      await page.screenshot({ path: path.join(out, 'vscode-process-line.png') });
      await view.locator('#regions-part summary').click();
      await view.locator('#regions .below button').first().click();
      await cursorAt(text.findIndex((l) => l.includes('make([]byte')) + 1);
      await page.screenshot({ path: path.join(out, 'vscode-process-regions.png') });
      await command('View: Toggle Primary Side Bar Visibility');
      await command('View: Close All Editors');
      await command('View: Show Sightline');
    } finally {
      held.kill('SIGKILL');
    }
  });

  await step('a recording that the Test Explorer began is cancelled and kept', async () => {
    await closeToasts();
    await openFile('accesslog_test.go', 20);
    const captures = page.locator('.pane', { hasText: 'Captures' }).last().locator('.monaco-list-row');
    await until('the list of captures', async () => await captures.count() > 0);
    const before = await captures.count();
    await command('Testing: Focus on Test Explorer View');
    const row = (name) => page.locator('.test-explorer-tree .monaco-list-row', { hasText: name }).first();
    await until('the test', async () => {
      if (await row('TestPages').count() > 0) return true;
      for (const name of ['accesslog_test.go', 'accesslog']) { // closed rows are opened from within
        if (await row(name).count() > 0) { await row(name).click(); await keys('ArrowRight'); break; }
      }
      return false;
    });
    await row('TestPages').click({ button: 'right' });
    const entry = page.locator('.context-view .action-item', { hasText: 'Profile with Sightline' }).first();
    await entry.waitFor();
    await page.screenshot({ path: path.join(out, 'vscode-testing.png') });
    await entry.click();
    await toast(/recording .*sample/).waitFor({ timeout: 120_000 });
    await toast('Profiling TestPages').hover();
    await toast('Profiling TestPages').locator('.monaco-button, .action-label', { hasText: 'Cancel' }).first().click();
    await toast(/TestPages: .* samples? in/).waitFor({ timeout: 120_000 });
    await command('View: Show Sightline');
    await until('one capture more', async () => await captures.count() === before + 1);
    await openFile('accesslog.go', lineOf('func Parse'));
    await until('costs', () => costOf('regexp.MustCompile'));
  });

  await step('two captures are compared', async () => {
    await command('Sightline: Compare with a Baseline…');
    const rows = page.locator('.quick-input-list .monaco-list-row');
    await until('captures', async () => await rows.count() >= 2);
    await rows.last().click();
    const tree = page.locator('.pane', { hasText: 'Hot Paths' }).first().locator('.monaco-list-row');
    await until('signed rows', async () => /[+-]\d/.test(plain(await tree.first().innerText())));
    await command('Sightline: Show Flame Graph');
    const canvas = flame().locator('#canvas');
    await canvas.waitFor();
    await until('what grew and shrank', async () => /grew[\s\S]*shrank/.test(await flame().locator('#legend').innerText()));
    const at = await until('boxes', () => canvas.evaluate((_, n) => globalThis.sightlineWhere(n), 'accesslog.Parse'));
    await canvas.hover({ position: at });
    await until('the change', async () => /[+-][\d.]+ \w+/.test(plain(await flame().locator('#tip .cost').innerText())));
    await page.screenshot({ path: path.join(out, 'vscode-diff.png') });
    await command('View: Close Editor');
    await command('Sightline: Stop Comparing');
    await until('plain rows', async () => /\d% · /.test(plain(await tree.first().innerText())));
  });

  await step('the processes that can be recorded', async () => {
    await command('Sightline: Attach to Process…');
    const rows = page.locator('.quick-input-list .monaco-list-row');
    await until('rows of processes', async () => await rows.count() > 2 && /\d+ · [\d.]+% CPU · /.test(plain(await rows.first().innerText())));
    await keys('Escape');
  });

  await step('a file of another profiler, and the tree of what it has', async () => {
    await openFile('old.folded');
    await command('View: Reopen Editor With...');
    await page.locator('.quick-input-list .monaco-list-row', { hasText: 'Sightline Profile' }).first().click();
    const canvas = flame().locator('#canvas');
    await canvas.waitFor({ timeout: 120_000 });
    await until('boxes', () => canvas.evaluate((_, n) => globalThis.sightlineWhere(n), 'flush'));
    await page.waitForTimeout(300);
    await page.screenshot({ path: path.join(out, 'vscode-folded.png') });
  });

  await step('no host beyond this machine was asked', () => assert.deepEqual([...outside], []));
  await step('no error of ours in the console', () => assert.deepEqual(problems, []));

  // A folder that is not trusted, whose settings name a program and flags.
  await server.stop();
  const strange = workspace();
  fs.mkdirSync(path.join(strange, '.vscode'));
  fs.writeFileSync(path.join(strange, '.vscode', 'settings.json'), JSON.stringify({ 'sightline.server.path': '/nowhere/sightline', 'sightline.hints.unit': 'percent' }));
  const trust = { 'security.workspace.trust.enabled': true, 'security.workspace.trust.startupPrompt': 'never', 'security.workspace.trust.banner': 'never' };
  server = await startServer({ install: [packaged], more: trust }); // and no daemon, which everybody can do without

  await step('restricted: opens a test, and records nothing', async () => {
    await page.goto(address(server.port, strange, [['openFile', remote(server.port, path.join(strange, 'accesslog_test.go'))]]));
    await page.waitForSelector('.monaco-editor .view-line', { timeout: 120_000 });
    const lens = page.locator('.codelens-decoration a', { hasText: 'profile' });
    await until('lenses, so the folder chose no server', async () => await lens.count() >= 3);
    await until('the mode', async () => /Restricted Mode/.test(await page.locator('.statusbar').innerText()));
    await lens.first().click();
    await toast('it has to be trusted first').waitFor();
    await page.screenshot({ path: path.join(out, 'vscode-restricted.png') });
    await command('View: Show Sightline');
    await page.locator('.pane', { hasText: 'Captures' }).last().locator('.monaco-button', { hasText: 'Manage Workspace Trust' }).waitFor();
    assert.equal(await page.locator('.pane', { hasText: 'Captures' }).last().locator('.monaco-list-row').count(), 0);
  });

  await step('restricted: a file of another profiler can be looked at', async () => {
    await openFile('old.folded');
    await command('View: Reopen Editor With...');
    await page.locator('.quick-input-list .monaco-list-row', { hasText: 'Sightline Profile' }).first().click();
    const canvas = flame().locator('#canvas');
    await canvas.waitFor();
    await until('boxes', () => canvas.evaluate((_, n) => globalThis.sightlineWhere(n), 'flush'));
    await page.locator('.pane', { hasText: 'Captures' }).last().locator('.monaco-list-row', { hasText: 'old.folded' }).waitFor();
  });

  await step('restricted: once it is trusted, its settings hold, and a test is recorded', async () => {
    await closeToasts();
    await command('Workspaces: Manage Workspace Trust');
    await page.locator('.workspace-trust-editor .monaco-button', { hasText: /^Trust/ }).first().click();
    await toast('names /nowhere/sightline, which is no program').waitFor({ timeout: 120_000 });
    fs.writeFileSync(path.join(strange, '.vscode', 'settings.json'), JSON.stringify({ 'sightline.hints.unit': 'percent' }));
    await openFile('accesslog_test.go', 20);
    const lens = page.locator('.codelens-decoration a', { hasText: 'profile' });
    await until('lenses again', async () => await lens.count() > 0);
    await closeToasts();
    await lens.first().click();
    await toast('Profiling TestPages').waitFor({ timeout: 120_000 });
    await toast(/TestPages: .* samples in/).waitFor({ timeout: 120_000 });
  });
} catch (err) {
  failures++;
  console.error(current, err);
} finally {
  await close().catch(() => {});
  await server.stop();
}
console.log(`${failures === 0 ? 'all steps passed' : `${failures} steps failed`} in ${((Date.now() - begin) / 1000).toFixed(0)} s; pictures in ${path.relative(process.cwd(), out)}`);
process.exit(failures ? 1 : 0);
