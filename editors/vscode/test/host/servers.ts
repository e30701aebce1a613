// Servers that a person may come to have: none, one of another version, one without privileges.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as vscode from 'vscode';
import type { Parts, RecordingResult } from '../../src/commands';
import * as rpc from '../../src/protocol';
import { activated, heard, lineOf, open, until as untilAt, workspaceFolder } from './editor';

/** A server in few lines: it says a version and what it knows of ours, and answers nothing else. */
const another = (version: string, methods: string[]): string => `#!${process.execPath}
let rest = Buffer.alloc(0);
const send = (m) => { const b = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...m })); process.stdout.write('Content-Length: ' + b.length + '\\r\\n\\r\\n'); process.stdout.write(b); };
process.stdin.on('data', (b) => {
  rest = Buffer.concat([rest, b]);
  for (;;) {
    const end = rest.indexOf('\\r\\n\\r\\n');
    if (end < 0) return;
    const length = Number(/Content-Length: (\\d+)/.exec(rest.subarray(0, end))[1]);
    if (rest.length < end + 4 + length) return;
    const m = JSON.parse(rest.subarray(end + 4, end + 4 + length));
    rest = rest.subarray(end + 4 + length);
    if (m.method === 'initialize') send({ id: m.id, result: { serverInfo: { name: 'sightline', version: ${JSON.stringify(version)} }, capabilities: { experimental: { sightline: { methods: ${JSON.stringify(methods)} } } } } });
    else if (m.method === 'shutdown') send({ id: m.id, result: null });
    else if (m.method === 'exit') process.exit(0);
    else if (m.id !== undefined) send({ id: m.id, error: { code: -32601, message: 'no such method' } });
  }
});
`;

const until = <T>(what: string, condition: () => T | Promise<T>) => untilAt(what, condition, 60_000);
describe('with another server', () => {
  let parts: Parts, proper: string, folder: string, home: string; // home is the user's without privileges
  const drawn = (d: vscode.TextDocument) => parts.decorations.drawn(d.uri)?.size ?? 0;
  const choose = (server: string | undefined): Thenable<void> => vscode.workspace.getConfiguration('sightline').update('server.path', server, vscode.ConfigurationTarget.Workspace);
  /** use has a program be the server: choosing it is all that a person does. */
  async function use(server: string): Promise<void> {
    await choose(server);
    await until(`${server} to run`, () => parts.server.running && parts.server.executable === server);
  }
  function script(name: string, text: string): string {
    const file = path.join(folder, '..', name);
    fs.writeFileSync(file, text, { mode: 0o755 });
    return file;
  }
  before(async () => {
    folder = workspaceFolder();
    home = path.join(folder, '..', 'nobody');
    parts = await activated();
    proper = parts.server.executable;
    if ((await parts.captures.refresh()).length > 0) return;
    const e = await open('accesslog_test.go');
    e.selection = new vscode.Selection(lineOf(e.document, 'func TestPages(') + 1, 0, lineOf(e.document, 'func TestPages(') + 1, 0);
    await vscode.commands.executeCommand('sightline.profileTest');
  });
  afterEach(async function () {
    this.timeout(120_000);
    await choose(proper);
    await until('the proper server', () => parts.server.running && parts.server.executable === proper);
  });

  after(() => {
    if (!fs.existsSync(home)) return;
    // His daemon; it would be started again while he has an editor.
    const said = execFileSync('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', path.join(home, 'sightline'), 'daemon', 'stop'],
      { cwd: '/', encoding: 'utf8', env: { ...process.env, HOME: home, XDG_RUNTIME_DIR: path.join(home, 'run'), XDG_STATE_HOME: path.join(home, 'state') } });
    assert.match(said, /has ended/);
  });

  it('says once that a server of another version does not fit, with the remedy', async function () {
    this.timeout(120_000);
    const said = heard('showWarningMessage');
    try {
      const of = Object.values(rpc).map(String).filter((m) => m.startsWith('sightline/'));
      const newer = script('newer', another('v9.8.7', of));
      await use(newer);
      const text = await until('the versions', () => said.texts.find((t) => t.includes('v9.8.7')));
      const { version } = parts.context.extension.packageJSON as { version: string };
      assert.equal(text, `The Sightline server is version v9.8.7 (${newer}, which the setting sightline.server.path names), and the extension is version ${version}: they do not fit together. Update it, or empty the setting.`);

      const older = script('older', another(`v${version}`, of.filter((m) => m !== rpc.MethodFlame && m !== rpc.MethodHottest)));
      await use(older);
      const lacks = await until('what it lacks', () => said.texts.find((t) => t.includes('does not know')));
      assert.ok(lacks.includes(rpc.MethodFlame) && lacks.includes(rpc.MethodHottest) && !lacks.includes(rpc.MethodLines), lacks);
      assert.equal(said.texts.length, 2, said.texts.join('\n'));

      await use(script('fits', another(`v${version}`, of)));
      await use(proper);
      assert.equal(said.texts.length, 2, said.texts.join('\n'));
    } finally {
      said.restore();
    }
  });

  it('says that there is no such program, and works once the setting is mended', async function () {
    this.timeout(120_000);
    const said = heard('showErrorMessage');
    try {
      const e = await open('accesslog.go');
      await until('numbers', () => drawn(e.document) > 0);
      await choose('/nowhere/sightline');
      const text = await until('it', () => said.texts[0]);
      assert.equal(text, 'The setting sightline.server.path names /nowhere/sightline, which is no program that can be run. Correct it, or empty it to use the one that comes with the extension.');
      await until('no server', () => !parts.server.running);
      await until('no numbers', () => drawn(e.document) === 0);
      assert.equal(said.texts.length, 1, said.texts.join('\n'));
      await vscode.commands.executeCommand('sightline.hottestLines'); // who asks is told again, and once
      assert.deepEqual(said.texts, [text, text]);

      // A program that is none, and one that ends at once.
      said.texts.length = 0;
      await choose(script('nothing', 'this is no program'));
      const why = await until('why', () => said.texts[0]);
      assert.match(why, /^\S+\/nothing ended with exit status 127 before it answered as a language server does\. Correct the setting sightline\.server\.path, or empty it\. Its log is \S+server\.log$/);
      await new Promise((resolve) => setTimeout(resolve, 500)); // what else would be said
      assert.deepEqual(said.texts, [why]);
      await choose(proper);
      await until('numbers', () => drawn(e.document) > 0);
    } finally {
      said.restore();
    }
  });

  it('tells a user without privileges what is missing and what helps, and records his own programs', async function () {
    this.timeout(180_000);
    if (process.getuid?.() !== 0) this.skip(); // nobody else can become another user
    for (const dir of ['', 'run', 'state']) {
      fs.mkdirSync(path.join(home, dir), { mode: 0o700 });
      fs.chownSync(path.join(home, dir), 65534, 65534);
    }
    fs.chmodSync(path.join(folder, '..'), 0o755);
    fs.copyFileSync(proper, path.join(home, 'sightline'));
    fs.chmodSync(path.join(home, 'sightline'), 0o755);
    const server = script('ordinary', `#!/bin/sh
cd / && HOME='${home}' XDG_RUNTIME_DIR='${home}/run' XDG_STATE_HOME='${home}/state' exec setpriv --reuid 65534 --regid 65534 --clear-groups '${home}/sightline' serve
`);
    const informed = heard('showInformationMessage'), refused = heard('showErrorMessage');
    const other = spawn('sleep', ['600']); // root's
    try {
      await use(server);
      const doctor = await parts.server.request<rpc.DoctorResult>(rpc.MethodDoctor);
      const missing = doctor.engines.find((e) => !e.works && e.remedy);
      assert.ok(missing, JSON.stringify(doctor.engines));
      const own = (): Thenable<RecordingResult | undefined> => vscode.commands.executeCommand<RecordingResult | undefined>('sightline.record', { command: ['/bin/sh', '-c', 'i=0; while [ $((i += 1)) -lt 300000 ]; do :; done'] });
      const results = [await own(), await own()];
      const told = [...informed.texts, ...refused.texts].filter((t) => t.includes(missing.remedy) && t.startsWith(`${missing.engine}: `));
      assert.equal(told.length, 1, `${informed.texts.join('\n')}\n${refused.texts.join('\n')}`);
      assert.ok(told[0]?.includes(missing.why), told[0]);
      if (doctor.healthy) { // perf_event_paranoid is 2 or less
        for (const r of results) assert.ok(r?.capture && r.samples > 0, JSON.stringify(r));
      }
      // A process of another user.
      refused.texts.length = 0;
      const r = await vscode.commands.executeCommand<RecordingResult | undefined>('sightline.record', { pid: other.pid });
      assert.equal(r, undefined);
      const others = doctor.engines.find((e) => e.engine === 'perf' && e.what === "other users' processes");
      assert.ok(others && !others.works);
      assert.equal(refused.texts.length, 1, refused.texts.join('\n'));
      assert.ok(refused.texts[0]?.includes(`process ${other.pid}`) && refused.texts[0].includes('record as that user or as root'), refused.texts[0]);
      assert.ok(refused.texts[0].includes('doctor --fix') || refused.texts[0].includes(others.remedy), `${refused.texts[0]}\n${others.remedy}`);
      const listed = (await parts.server.request<rpc.ProcessInfo[]>(rpc.MethodProcesses)).find((p) => p.pid === other.pid);
      assert.match(listed?.refused ?? '', /^it belongs to root, and .*; what helps: ./);
    } finally {
      other.kill('SIGKILL');
      informed.restore();
      refused.restore();
    }
  });
});
