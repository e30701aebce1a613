// The test bed: a folder to profile, VS Code's own server with the extension, and a browser.
import { spawn, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const extension = path.resolve(import.meta.dirname, '..');
export const root = path.resolve(extension, '..', '..');
export const out = path.join(extension, 'out');

const cache = path.join(process.env.SIGHTLINE_TEST_CACHE ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'sightline-test'), 'vscode');

/**
 * bed says where the set-up has put things; undefined where it has not run. OLDEST=1 means the oldest VS
 * Code that the extension says it runs in.
 */
export function bed(file = process.env.OLDEST ? 'env-oldest' : 'env') {
  try {
    const env = fs.readFileSync(path.join(cache, file), 'utf8');
    const value = (name) => new RegExp(`^export ${name}='(.*)'$`, 'm').exec(env)[1];
    const found = { server: value('VSCODE_SERVER_ROOT'), node: value('VSCODE_NODE') };
    return fs.existsSync(path.join(found.server, 'out/server-main.js')) && fs.existsSync(found.node) && fs.existsSync(path.join(extension, 'node_modules')) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** temporary is a folder that is gone when the process ends. */
const temporaries = [];
export function temporary(name) {
  const dir = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), `sightline-${name}-`)));
  temporaries.push(dir);
  return dir;
}
process.on('exit', () => {
  if (!process.env.KEEP) for (const d of temporaries) fs.rmSync(d, { recursive: true, force: true });
});

/** prepared says that run.mjs has built everything: suites that run side by side must not each do it. */
const prepared = process.env.SIGHTLINE_PREPARED === '1';

/** bundle makes of the extension and its pages what VS Code loads. */
export function bundle() {
  if (!prepared) execFileSync(process.execPath, ['esbuild.mjs'], { cwd: extension, stdio: ['ignore', 'inherit', 'inherit'] });
}

/** binary builds the server and answers its path. */
export function binary() {
  const to = path.join(out, 'sightline');
  if (prepared) return to;
  execFileSync('go', ['build', '-o', to, './cmd/sightline'], { cwd: root, env: { ...process.env, CGO_ENABLED: '0' }, stdio: ['ignore', 'inherit', 'inherit'] });
  return to;
}

/** standin packages the extension that stands in for the Go extension and answers the package's path. */
export function standin() {
  const to = path.join(out, 'standin.vsix');
  if (prepared) return to;
  execFileSync(process.execPath, [path.join(extension, 'node_modules/@vscode/vsce/vsce'), 'package', '--no-dependencies', '--allow-missing-repository', '--skip-license', '--out', to],
    { cwd: path.join(import.meta.dirname, 'standin'), stdio: ['ignore', 'ignore', 'inherit'] });
  return to;
}

/** vsix packages the extension with a server and answers the package's path. */
export function vsix(server) {
  const to = path.join(out, 'sightline.vsix');
  if (prepared) return to;
  bundle();
  execFileSync(process.execPath, ['package.mjs', to], { cwd: extension, env: { ...process.env, SIGHTLINE_BINARY: server }, stdio: ['ignore', 'ignore', 'inherit'] });
  return to;
}

/**
 * workspace makes a folder with the bundled example and a package whose source has what editors get
 * wrong: CR LF, tabs, characters beyond the basic plane, a long function to fold.
 */
export function workspace() {
  const dir = path.join(temporary('workspace'), 'accesslog');
  fs.cpSync(path.join(root, 'testdata', 'example'), dir, { recursive: true });
  fs.cpSync(path.join(import.meta.dirname, 'testdata'), dir, { recursive: true });
  const crlf = path.join(dir, 'score', 'score.go');
  fs.writeFileSync(crlf, fs.readFileSync(crlf, 'utf8').replaceAll('\r', '').replaceAll('\n', '\r\n'));
  fs.writeFileSync(path.join(dir, 'old.folded'), 'main;serve;parse 30\nmain;serve 10\nmain;flush 60\n');
  return dir;
}

const settings = {
  'telemetry.telemetryLevel': 'off',
  'update.mode': 'none',
  'extensions.autoCheckUpdates': false,
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'workbench.startupEditor': 'none',
  'workbench.colorTheme': 'Dark Modern',
  'workbench.preferredDarkColorTheme': 'Dark Modern',
  'workbench.preferredLightColorTheme': 'Light Modern',
  'workbench.enableExperiments': false,
  'workbench.tips.enabled': false,
  'workbench.layoutControl.enabled': false,
  'window.commandCenter': false,
  'security.workspace.trust.enabled': false,
  'chat.disableAIFeatures': true,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'git.enabled': false,
  'editor.minimap.enabled': false,
  'editor.stickyScroll.enabled': false,
  'editor.fontFamily': 'DejaVu Sans Mono',
  'editor.fontSize': 13,
  'editor.inlayHints.enabled': 'on',
  'editor.autoClosingBrackets': 'never',
  'editor.autoIndent': 'none',
  'files.autoSave': 'off',
};

/**
 * startServer starts VS Code's server and answers its port and how to stop it. Its state, and
 * Sightline's, is in a folder of its own. Sightline's server, the program sightline, works through a daemon
 * of its own, as it does for users; without sightline it works without one.
 */
export async function startServer({ sightline, install = [], env = {}, args = [], more = {} } = {}) {
  const { server, node } = bed();
  const data = temporary('vscode');
  const dirs = ['--server-data-dir', `${data}/server`, '--user-data-dir', `${data}/user`, '--extensions-dir', `${data}/extensions`];
  const userSettings = `${data}/user/User/settings.json`; // this build keeps a user's settings on the server
  fs.mkdirSync(path.dirname(userSettings), { recursive: true });
  fs.writeFileSync(userSettings, JSON.stringify({ ...settings, ...more }, null, 1));
  const run = `${data}/run`;
  fs.mkdirSync(run, { mode: 0o700 });
  const environment = { ...process.env, EXTENSIONS_GALLERY: '{}', SIGHTLINE_NO_DAEMON: sightline ? '' : '1', XDG_RUNTIME_DIR: run, XDG_STATE_HOME: `${data}/state`, ...env };
  for (const k of Object.keys(environment)) if (k.startsWith('VSCODE_')) delete environment[k];
  const main = path.join(server, 'out/server-main.js');
  if (install.length > 0) execFileSync(node, [main, ...dirs, ...install.flatMap((file) => ['--install-extension', file]), '--force'], { env: environment, stdio: ['ignore', 'ignore', 'inherit'] });
  const child = spawn(node, [main, ...dirs, '--host', '127.0.0.1', '--port', '0', '--without-connection-token',
    '--accept-server-license-terms', '--telemetry-level', 'off', ...args], { env: environment, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let log = '';
  const port = await new Promise((resolve, reject) => {
    const read = (b) => {
      log += b;
      const m = /(?:agent listening on |Web UI available at http:\/\/[^:]*:)(\d+)/.exec(log);
      if (m) resolve(Number(m[1]));
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('exit', (code) => reject(new Error(`VS Code's server ended with ${code}:\n${log}`)));
    setTimeout(() => reject(new Error(`VS Code's server did not start:\n${log}`)), 60_000).unref();
  });
  const kill = (signal) => { try { process.kill(-child.pid, signal); } catch { /* gone */ } };
  const daemon = (what) => execFileSync(sightline, ['daemon', what], { env: environment, encoding: 'utf8' });
  let stopped = false;
  process.once('exit', () => {
    kill('SIGKILL');
    if (sightline && !stopped) daemon('stop');
  });
  return {
    port, data, userSettings, environment, log: () => log, daemon,
    /** stop ends everything that was started, and throws where something is left. */
    async stop() {
      const gone = new Promise((resolve) => { child.removeAllListeners('exit'); child.once('exit', resolve); setTimeout(resolve, 4000); });
      kill('SIGTERM');
      await gone;
      kill('SIGKILL');
      if (!sightline || stopped) return;
      stopped = true;
      const said = daemon('stop');
      if (!/has ended/.test(said)) throw new Error(`the editor was not served by a daemon: ${said}`);
      await until('the end of all that was started', () => started(run).length === 0, 30_000).catch((err) => { throw new Error(`${err.message}: ${started(run).join(', ')}`); });
    },
  };
}

/** started are the processes with a runtime folder of their environment. */
function started(run) {
  return fs.readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => {
    try {
      if (!fs.readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`XDG_RUNTIME_DIR=${run}`)) return [];
      return [`${pid} ${fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`];
    } catch {
      return []; // it has ended
    }
  });
}

/** openBrowser opens Chromium. outside are the hosts beyond this machine that were asked for. */
export async function openBrowser({ width = 1280, height = 800 } = {}) {
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launchPersistentContext(temporary('chromium'), {
    executablePath: '/usr/bin/chromium', headless: true, viewport: { width, height },
    permissions: ['clipboard-read', 'clipboard-write'],
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = browser.pages()[0] ?? await browser.newPage();
  page.setDefaultTimeout(60_000);
  const outside = new Set();
  browser.on('request', (r) => {
    const u = new URL(r.url());
    // A webview's own files have a name of that kind; its service worker answers, and nobody is asked.
    if (u.hostname.endsWith('.vscode-resource.vscode-cdn.net')) return;
    if (/^(https?|wss?):$/.test(u.protocol) && !/^(127\.0\.0\.1|localhost|.*\.localhost)$/.test(u.hostname)) outside.add(u.hostname);
  });
  return { browser, page, outside, close: () => browser.close() };
}

/** address is the workbench's for a folder, with what it is to do first. */
export function address(port, folder, payload = []) {
  const q = new URLSearchParams({ folder });
  if (payload.length > 0) q.set('payload', JSON.stringify(payload));
  return `http://127.0.0.1:${port}/?${q}`;
}

/** remote is a path as the workbench names it. */
export function remote(port, file) { return `vscode-remote://127.0.0.1:${port}${file}`; }

/** until waits for a condition; what it waits for is in the error. */
export async function until(what, condition, timeout = 240_000) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      const v = await condition();
      if (v) return v;
    } catch (err) {
      last = err;
    }
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}${last ? `: ${last.message ?? last}` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
