// In the real extension host: what the extension does, seen through the editor's own interface.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as vscode from 'vscode';
import type { Parts, RecordingResult } from '../../src/commands';
import type { ProcessPage } from '../../src/process/page';
import * as rpc from '../../src/protocol';
import { testOfItem } from '../../src/testing';
import { activated, heard, id, lineOf, open, until, workspaceFolder } from './editor';

let parts: Parts;
let folder: string;

const drawn = (d: vscode.TextDocument) => parts.decorations.drawn(d.uri) ?? new Map<number, { text: string; step: number }>();
/** agreed waits until the server has answered for the present text and what is drawn is that. */
async function agreed(d: vscode.TextDocument): Promise<Map<number, { text: string; step: number }>> {
  return until('editor and server to agree', async () => {
    const r = await parts.server.request<rpc.LinesResult>(rpc.MethodLines, { textDocument: { uri: d.uri.toString() } });
    const want = new Map(r.lines.filter((l) => l.text !== '').map((l) => [l.line, l.text]));
    const have = drawn(d);
    return want.size === have.size && [...want].every(([line, text]) => have.get(line)?.text === text) ? have : undefined;
  });
}
async function edit(e: vscode.TextEditor, change: (b: vscode.TextEditorEdit) => void): Promise<void> {
  assert.ok(await e.edit(change));
}
async function profile(name: string, test: string): Promise<RecordingResult> {
  const e = await open(name);
  const line = lineOf(e.document, `func ${test}(`) + 1;
  e.selection = new vscode.Selection(line, 0, line, 0);
  const r = await vscode.commands.executeCommand<RecordingResult>('sightline.profileTest');
  assert.ok(r?.capture, `no capture of ${test}: ${JSON.stringify(r)} ${errors.texts.join(' | ')}`);
  return r;
}
const errors = heard('showErrorMessage');

describe('the extension in the real extension host', () => {
  afterEach(function () {
    if (this.currentTest?.state === 'failed' && errors.texts.length > 0) console.error(`${this.currentTest.title}: the extension said: ${errors.texts.join(' | ')}`);
    errors.texts.length = 0;
  });
  before(async function () {
    this.timeout(180_000);
    folder = workspaceFolder();
    parts = await activated();
  });

  it('runs in a version that it says it runs in, and where it is asked to in the oldest of those', () => {
    const { engines } = vscode.extensions.getExtension(id)?.packageJSON as { engines: { vscode: string } };
    const [least, now] = [engines.vscode.replace('^', ''), vscode.version].map((v) => v.split('.').slice(0, 2).map(Number)) as [number[], number[]];
    assert.ok(process.env.OLDEST ? now.join() === least.join() : (now[1] ?? 0) > (least[1] ?? 0), vscode.version);
  });
  it('registers every command that it contributes', async () => {
    const all = new Set(await vscode.commands.getCommands(true));
    const contributed = (vscode.extensions.getExtension(id)?.packageJSON as { contributes: { commands: { command: string; category: string }[] } }).contributes.commands;
    assert.deepEqual(contributed.filter((c) => !all.has(c.command)).map((c) => c.command), []);
    assert.deepEqual(contributed.filter((c) => c.category !== 'Sightline').map((c) => c.command), []);
  });
  it('registers every command of the server', async () => {
    const client = (parts.server as unknown as { client: { initializeResult: { capabilities: { executeCommandProvider: { commands: string[] } } } } }).client;
    const all = new Set(await vscode.commands.getCommands(true));
    assert.deepEqual(client.initializeResult.capabilities.executeCommandProvider.commands.filter((c) => !all.has(c)), []);
  });
  it('names no setting that the server does not know', () => {
    const log = fs.readFileSync(parts.server.log, 'utf8');
    assert.doesNotMatch(log, /setting is not known|setting is ignored/);
  });
  it('names every server method that it needs', () => {
    const log = fs.existsSync(parts.server.log) ? fs.readFileSync(parts.server.log, 'utf8') : '';
    assert.doesNotMatch(log, /panic:/);
  });

  describe('after a real recording of the bundled example', () => {
    let source: vscode.TextEditor, result: RecordingResult;
    before(async function () {
      this.timeout(240_000);
      await open('accesslog.go'); // costs appear in a file that is open already
      result = await profile('accesslog_test.go', 'TestPages');
      source = await open('accesslog.go');
      await until('costs', () => drawn(source.document).size > 0);
    });

    it('says how it went', () => {
      assert.ok(result.samples > 100, `${result.samples} samples`);
      assert.match(result.message, /TestPages: .* samples in .*, hottest accesslog\.go:(\d+) \(/);
      assert.equal(Number(/:(\d+) \(/.exec(result.message)?.[1]), lineOf(source.document, 'regexp.MustCompile') + 1);
    });
    it('draws the costs of lines, the hottest hottest', async () => {
      const marks = await agreed(source.document);
      const compile = marks.get(lineOf(source.document, 'regexp.MustCompile'));
      assert.match(compile?.text ?? '', /^\d+\.\d% · .*s$/);
      assert.ok((compile?.step ?? 0) >= 3);
      assert.equal(Math.max(...[...marks.values()].map((m) => m.step)), 4);
    });
    it('shows no number twice: hints are there exactly while the layer is off', async () => {
      const whole = new vscode.Range(0, 0, source.document.lineCount, 0);
      const hints = () => vscode.commands.executeCommand<vscode.InlayHint[]>('vscode.executeInlayHintProvider', source.document.uri, whole);
      assert.equal((await hints()).length, 0);
      await vscode.commands.executeCommand('sightline.toggleDecorations');
      const given = await until('hints', async () => { const h = await hints(); return h.length > 0 ? h : undefined; });
      const marks = await agreed(source.document);
      assert.deepEqual(given.map((h) => [h.position.line, h.label]), [...marks].sort((a, b) => a[0] - b[0]).map(([line, m]) => [line, m.text]));
      await vscode.commands.executeCommand('sightline.toggleDecorations');
      await until('no hints', async () => (await hints()).length === 0);
    });
    it('has lenses on hot functions and tests, each kind switchable', async () => {
      const lenses = async (name: string) => (await vscode.commands.executeCommand<vscode.CodeLens[]>('vscode.executeCodeLensProvider', vscode.Uri.file(path.join(folder, name)), 100)).map((l) => l.command?.title ?? '');
      assert.ok((await lenses('accesslog.go')).some((t) => /^total \d+\.\d% · /.test(t)));
      await open('accesslog_test.go');
      const kinds: [string, number][] = [['tests', 2], ['benchmarks', 1], ['subtests', 1]];
      const count = async (): Promise<number> => (await lenses('accesslog_test.go')).filter((t) => t === 'profile').length;
      assert.equal(await count(), 4);
      const config = () => vscode.workspace.getConfiguration('sightline.lenses');
      for (const [kind, n] of kinds) {
        await config().update(kind, false, vscode.ConfigurationTarget.Workspace);
        await until(`no lenses on ${kind}`, async () => await count() === 4 - n);
        await config().update(kind, undefined, vscode.ConfigurationTarget.Workspace);
        await until(`lenses on ${kind}`, async () => await count() === 4);
      }
      await config().update('functions', false, vscode.ConfigurationTarget.Workspace);
      await until('no lenses on functions', async () => (await lenses('accesslog.go')).length === 0);
      await config().update('functions', undefined, vscode.ConfigurationTarget.Workspace);
      await until('lenses on functions', async () => (await lenses('accesslog.go')).length > 0);
      source = await open('accesslog.go');
    });
    it('explains a number in a hover', async () => {
      const line = lineOf(source.document, 'regexp.MustCompile');
      const hovers = await vscode.commands.executeCommand<vscode.Hover[]>('vscode.executeHoverProvider', source.document.uri, new vscode.Position(line, source.document.lineAt(line).text.length));
      const text = hovers.flatMap((h) => h.contents.map((c) => typeof c === 'string' ? c : c.value)).join('\n');
      assert.ok(text.includes(`accesslog.go:${line + 1}`));
      assert.match(text, /regexp\.MustCompile/);
      assert.match(text, /command:sightline\.goToFrame/);
    });
    it('switches the metric and back', async () => {
      const line = lineOf(source.document, 'regexp.MustCompile');
      const total = drawn(source.document).get(line)?.text;
      await vscode.commands.executeCommand('sightline.toggleMetric');
      await until('self', () => drawn(source.document).get(line)?.text !== total);
      await vscode.commands.executeCommand('sightline.setMetric', { metric: 'total', unit: 'percent' });
      await until('percent', () => /^\d+\.\d%$/.test(drawn(source.document).get(line)?.text ?? ''));
      await vscode.commands.executeCommand('sightline.setMetric', { unit: 'both' });
      await until('total', () => drawn(source.document).get(line)?.text === total);
    });
    it('goes from hot line to hot line', async () => {
      const lines = [...drawn(source.document).keys()].sort((a, b) => a - b);
      source.selection = new vscode.Selection(0, 0, 0, 0);
      await vscode.commands.executeCommand('sightline.nextHotLine');
      await until('the first', () => vscode.window.activeTextEditor?.selection.active.line === lines[0]);
      await vscode.commands.executeCommand('sightline.previousHotLine');
      await until('the last', () => vscode.window.activeTextEditor?.selection.active.line === lines.at(-1));
    });
    it('moves numbers with their lines at once, and drops and restores those of changed lines', async () => {
      const line = lineOf(source.document, 'regexp.MustCompile'), text = drawn(source.document).get(line)?.text;
      await edit(source, (b) => b.insert(new vscode.Position(0, 0), '// a\n// b\n'));
      assert.equal(drawn(source.document).get(line + 2)?.text, text, 'at once');
      await agreed(source.document);
      assert.equal(drawn(source.document).get(line + 2)?.text, text);
      await edit(source, (b) => b.insert(new vscode.Position(line + 2, source.document.lineAt(line + 2).text.length), ' // changed'));
      await until('no number on the changed line', () => !drawn(source.document).has(line + 2));
      await until('stale', () => (parts.decorations.result(source.document.uri)?.stale ?? 0) > 0 && parts.status.text.includes('stale'));
      assert.match(parts.decorations.result(source.document.uri)?.note ?? '', /changed|edited/);
      for (let i = 0; i < 2; i++) await vscode.commands.executeCommand('undo');
      await until('the number again', () => drawn(source.document).get(line)?.text === text);
      await agreed(source.document);
      await vscode.commands.executeCommand('workbench.action.files.revert');
    });
    it('keeps numbers right over a split and a deleted hot line', async () => {
      const line = lineOf(source.document, 'regexp.MustCompile'), text = drawn(source.document).get(line)?.text;
      const end = new vscode.Position(line, source.document.lineAt(line).text.length);
      await edit(source, (b) => b.insert(end, '\n'));
      await agreed(source.document);
      assert.equal(drawn(source.document).get(line)?.text, text, 'a break behind the line');
      await vscode.commands.executeCommand('undo');
      await edit(source, (b) => b.insert(new vscode.Position(line, 0), '\n'));
      await agreed(source.document);
      assert.equal(drawn(source.document).get(line + 1)?.text, text, 'a break before the line');
      await vscode.commands.executeCommand('undo');
      await edit(source, (b) => b.delete(source.document.lineAt(line).rangeIncludingLineBreak));
      await agreed(source.document);
      assert.notEqual(drawn(source.document).get(line)?.text, text, 'deleted');
      await vscode.commands.executeCommand('undo');
      await until('the number again', () => drawn(source.document).get(line)?.text === text);
      await vscode.commands.executeCommand('workbench.action.files.revert');
    });
    it('remaps when the file changes on disk', async () => {
      const file = source.document.uri.fsPath, before = fs.readFileSync(file, 'utf8');
      const line = lineOf(source.document, 'regexp.MustCompile'), text = drawn(source.document).get(line)?.text;
      try {
        fs.writeFileSync(file, before.replace('// A Request is', '// one\n// two\n// three\n// A Request is'));
        await until('the editor to read it', () => lineOf(source.document, 'regexp.MustCompile') === line + 3);
        await until('numbers to follow', () => drawn(source.document).get(line + 3)?.text === text);
        await agreed(source.document);
      } finally {
        fs.writeFileSync(file, before);
      }
      await until('the editor to read it', () => lineOf(source.document, 'regexp.MustCompile') === line);
      await until('numbers to follow', () => drawn(source.document).get(line)?.text === text);
    });
    it('lists the hottest lines and functions with their places', async () => {
      for (const what of ['lines', 'functions']) {
        const spots = await parts.server.request<rpc.HotSpot[]>(rpc.MethodHottest, { what });
        assert.ok(spots.length > 0 && spots[0]?.location?.uri.endsWith('.go'), JSON.stringify(spots[0]));
      }
    });
    it('knows the neighbours of a function', async () => {
      const r = await parts.server.request<rpc.NeighborsResult>(rpc.MethodNeighbors, { textDocument: { uri: source.document.uri.toString() }, line: lineOf(source.document, 'regexp.MustCompile') });
      assert.match(r.name, /Parse$/);
      assert.ok(r.callers.some((c) => c.label.includes('Pages')));
      assert.ok(r.callees.some((c) => c.label.includes('MustCompile')));
    });
    it('lists, renames, pins, compares and deletes captures', async () => {
      const second = await profile('accesslog_test.go', 'TestPages');
      const find = async (capture: string) => (await parts.captures.refresh()).find((c) => c.id === capture);
      const c = await find(result.capture);
      assert.ok(c);
      await vscode.commands.executeCommand('sightline.captures.note', c, 'before the change');
      await vscode.commands.executeCommand('sightline.captures.pin', c);
      const now = await find(result.capture);
      assert.ok(now);
      assert.deepEqual([now.note, now.pinned], ['before the change', true]);
      const item = parts.captures.getTreeItem(now);
      assert.equal(item.label, 'before the change');
      assert.match(item.contextValue ?? '', / pinned/);
      await vscode.commands.executeCommand('sightline.captures.baseline', now);
      await until('signed changes in lenses', async () => (await vscode.commands.executeCommand<vscode.CodeLens[]>('vscode.executeCodeLensProvider', vscode.Uri.file(path.join(folder, 'accesslog.go')), 100)).some((l) => /[▲▼=±+−]/.test(l.command?.title ?? '')));
      // Tree and flame graph show the difference too.
      const signed = /^[+\-±]/;
      const rows = (await parts.hotPaths.getChildren()).filter((n) => 'row' in n);
      assert.ok(rows.length > 0);
      for (const n of rows) assert.match(String(parts.hotPaths.getTreeItem(n).description), signed);
      await vscode.commands.executeCommand('sightline.flameGraph');
      const view = await until('the graph', () => parts.flame.current?.state && parts.flame.current);
      assert.equal(view.subject.before?.capture, result.capture);
      const graph = view.drawn;
      assert.ok(graph && graph.boxes.some((b) => b.g !== 0) && graph.boxes.every((b) => signed.test(b.t)), JSON.stringify(graph?.boxes[0]));
      assert.match(graph.title, /TestPages.* · from .* to /);
      await vscode.commands.executeCommand('sightline.clearBaseline');
      await until('a graph of the one capture', () => view.drawn && view.drawn !== graph && view.drawn.boxes.every((b) => !signed.test(b.t)));
      for (const n of (await parts.hotPaths.getChildren()).filter((x) => 'row' in x)) assert.match(String(parts.hotPaths.getTreeItem(n).description), /^\d+\.\d% · /);
      view.panel.dispose();
      await vscode.commands.executeCommand('sightline.captures.delete', await find(second.capture), true);
      assert.equal(await find(second.capture), undefined);
      assert.ok(await find(result.capture));
      source = await open('accesslog.go');
      await until('the older one\'s numbers', () => drawn(source.document).size > 0);
    });
    it('opens a capture by its row', async () => {
      const state = await vscode.commands.executeCommand<{ capture: string }>('sightline.openCapture', { capture: result.capture });
      assert.equal(state.capture, result.capture);
      assert.equal((await parts.captures.refresh()).find((c) => c.shown)?.id, result.capture);
      await vscode.commands.executeCommand('sightline.openCapture', {});
    });
    it('clears the numbers and shows them again', async () => {
      await vscode.commands.executeCommand('sightline.clear');
      await until('nothing', () => drawn(source.document).size === 0);
      await vscode.commands.executeCommand('sightline.openCapture', { capture: result.capture });
      await until('numbers', () => drawn(source.document).size > 0);
    });
    it('walks the tree of hot paths on demand, down to a place in the source', async () => {
      parts.hotPaths.show({ filter: {}, view: rpc.ViewCallTree, focus: undefined });
      let nodes = await parts.hotPaths.getChildren(), found = false;
      for (let depth = 0; depth < 60 && nodes.length > 0 && !found; depth++) {
        for (const n of nodes) {
          const item = parts.hotPaths.getTreeItem(n);
          if (String(item.label).includes('accesslog.Parse')) {
            assert.equal(item.command?.command, 'sightline.reveal');
            const [at] = item.command.arguments as [rpc.Location];
            assert.ok(at.uri.endsWith('/accesslog.go'));
            await vscode.commands.executeCommand(item.command.command, ...item.command.arguments as unknown[]);
            found = true;
          }
        }
        const first = nodes.find((n) => 'row' in n && n.row.children);
        nodes = first && !found ? await parts.hotPaths.getChildren(first) : [];
      }
      assert.ok(found, 'Parse is in the tree');
    });
    it('draws a flame graph, and marks the function at the cursor in it', async () => {
      await vscode.commands.executeCommand('sightline.flameGraph');
      const view = await until('the graph', () => parts.flame.current?.state && parts.flame.current);
      assert.ok((view.state?.boxes ?? 0) > 5);
      source = await open('accesslog.go');
      const line = lineOf(source.document, 'regexp.MustCompile');
      source.selection = new vscode.Selection(line, 2, line, 2);
      const name = await vscode.commands.executeCommand<string>('sightline.revealInFlameGraph');
      assert.match(name, /Parse$/);
      await until('it to be selected', () => view.state?.selected.endsWith('Parse'));
      const svg = vscode.Uri.file(path.join(folder, 'flame.svg'));
      await vscode.commands.executeCommand('sightline.exportSVG', svg);
      assert.match(fs.readFileSync(svg.fsPath, 'utf8'), /^(<\?xml[^>]*>\s*)?<svg/);
      view.panel.dispose();
      source = await open('accesslog.go');
    });
    it('reports what can be recorded', async () => {
      const r = await vscode.commands.executeCommand<rpc.DoctorResult>('sightline.doctor');
      assert.ok(r.healthy);
      assert.ok(r.engines.length > 3 && r.text.length > 50);
      await vscode.commands.executeCommand('workbench.action.closeActiveEditor');
    });
    it('shows a process, asks while it is seen, and says when it has ended', async () => {
      const child = spawn('sleep', ['600']);
      const page = await vscode.commands.executeCommand<ProcessPage>('sightline.inspectProcess', child.pid);
      const state = await until('numbers', () => (page.state?.updates ?? 0) > 1 ? page.state : undefined);
      assert.match(state.title, new RegExp(`^sleep \\(${child.pid}\\) · .* · sleeping · for `));
      assert.ok(state.facts > 8 && state.threads === 1 && state.files > 2, JSON.stringify(state));
      assert.ok(state.kinds > 4 && state.regions > 4 && state.terms === 0 && / resident · /.test(state.map), JSON.stringify(state));
      assert.equal(page.panel.title, `sleep (${child.pid})`);
      await open('accesslog.go'); // in the first column, where the page is not
      const beside = page.panel.viewColumn;
      const other = await vscode.workspace.openTextDocument({ content: 'x' });
      await vscode.window.showTextDocument(other, { viewColumn: beside, preview: false });
      await until('it to be hidden', () => !page.panel.visible);
      await new Promise((resolve) => setTimeout(resolve, 300)); // what was under way
      const asked = page.asked;
      await new Promise((resolve) => setTimeout(resolve, 2500));
      assert.equal(page.asked, asked, 'it asks while nobody sees it');
      page.panel.reveal();
      await until('it to ask again', () => page.asked > asked);
      child.kill('SIGKILL');
      await until('that it has ended', () => page.state?.ended);
      page.panel.dispose();
      await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
      source = await open('accesslog.go');
    });
    it('lists processes, this one among them', async () => {
      const all = await parts.server.request<rpc.ProcessInfo[]>(rpc.MethodProcesses);
      assert.ok(all.some((p) => p.pid === process.pid && !p.go), `${all.length} processes`);
    });
  });

  it('follows edits where lines end in CR LF and have tabs, é and 𝄞', async function () {
    this.timeout(240_000);
    const source = await open('score/score.go');
    assert.equal(source.document.eol, vscode.EndOfLine.CRLF);
    await profile('score/score_test.go', 'TestCount');
    const e = await open('score/score.go');
    await until('costs', () => drawn(e.document).size > 0);
    const line = lineOf(e.document, 'é𝄞: the hot line');
    const text = drawn(e.document).get(line)?.text;
    assert.ok(text, 'the hot line has a number');
    await edit(e, (b) => b.insert(new vscode.Position(4, 0), '// é𝄞\t\r\n'));
    assert.equal(drawn(e.document).get(line + 1)?.text, text);
    await agreed(e.document);
    // Text behind a character of two UTF-16 units: the number goes with the change, and undo brings it back.
    const at = e.document.lineAt(line + 1).text.indexOf('𝄞: the') + 2;
    await edit(e, (b) => b.insert(new vscode.Position(line + 1, at), '♪'));
    await until('no number', () => !drawn(e.document).has(line + 1));
    await vscode.commands.executeCommand('undo');
    await until('the number', () => drawn(e.document).get(line + 1)?.text === text);
    // Indentation is no change.
    await edit(e, (b) => b.insert(new vscode.Position(line + 1, 0), '\t\t'));
    await agreed(e.document);
    assert.equal(drawn(e.document).get(line + 1)?.text, text);
    // What is folded keeps its numbers.
    await vscode.commands.executeCommand('editor.foldAll');
    await edit(e, (b) => b.insert(new vscode.Position(0, 0), '// above\r\n'));
    await vscode.commands.executeCommand('editor.unfoldAll');
    await agreed(e.document);
    assert.equal(drawn(e.document).get(line + 2)?.text, text);
    await vscode.commands.executeCommand('workbench.action.files.revert');
  });

  it('stops a recording and keeps it, and drops another', async function () {
    this.timeout(240_000);
    const record = (): Thenable<RecordingResult> => vscode.commands.executeCommand<RecordingResult>('sightline.record', { command: ['/bin/sh', '-c', 'while :; do :; done'] });
    const kept = record();
    await until('samples', () => parts.status.recording && /sample/.test(parts.status.text));
    assert.match(parts.status.text, /^\$\(record\) /);
    await vscode.commands.executeCommand('sightline.stop');
    const r = await kept;
    assert.ok(r.capture && r.samples > 0);
    assert.ok((await parts.captures.refresh()).some((c) => c.id === r.capture));
    await until('idle', () => !parts.status.recording);
    const dropped = record();
    await until('recording', () => parts.status.recording);
    await vscode.commands.executeCommand('sightline.discard');
    assert.ok((await dropped).discarded);
  });

  it('chooses and records a launch target, and tells what is wrong with another', async function () {
    this.timeout(240_000);
    const file = path.join(folder, '.sightline.json');
    fs.writeFileSync(file, JSON.stringify({ targets: [{ name: 'spin', command: ['/bin/sh', '-c', 'while [ $((i += 1)) -lt $TIMES ]; do :; done'], env: { TIMES: '300000' } }, { name: 'other', command: ['/bin/true'] }] }, null, 1));
    const e = await open('.sightline.json');
    const lenses = async () => (await vscode.commands.executeCommand<vscode.CodeLens[]>('vscode.executeCodeLensProvider', e.document.uri, 100)).map((l) => l.command?.title ?? '');
    await until('lenses on its entries', async () => (await lenses()).join() === 'record spin,record other');
    // As a person does it: the picker, and its first entry.
    const recorded = vscode.commands.executeCommand<RecordingResult>('sightline.recordTarget');
    let over = false;
    void recorded.then(() => { over = true; });
    await until('the picker to be answered', async () => {
      await vscode.commands.executeCommand('workbench.action.acceptSelectedQuickOpenItem');
      return parts.status.recording || over;
    });
    const r = await recorded;
    assert.ok(r?.capture && r.name === 'spin' && r.samples > 0, JSON.stringify(r));
    assert.ok((await parts.captures.refresh()).some((c) => c.id === r.capture && c.target === 'spin'));
    await edit(e, (b) => b.replace(new vscode.Range(lineOf(e.document, '"other"'), 0, lineOf(e.document, '"other"') + 1, 0), '   "name": 7,\n'));
    const said = await until('the mistake at its place', () => vscode.languages.getDiagnostics(e.document.uri).find((d) => d.source === 'sightline'));
    assert.equal(said.message, 'targets[1].name is a number: make it a string');
    assert.equal(e.document.getText(said.range), '7');
    await vscode.commands.executeCommand('workbench.action.files.revert');
    await until('it to be gone', () => !vscode.languages.getDiagnostics(e.document.uri).some((d) => d.source === 'sightline'));
    await vscode.commands.executeCommand('workbench.action.closeActiveEditor');
    fs.rmSync(file);
  });

  it('profiles an item of the Test Explorer', async function () {
    this.timeout(240_000);
    // As the Go extension makes them: FILE?KIND#NAME; subtests that were found when they ran have no range.
    const controller = vscode.tests.createTestController('go', 'Go');
    try {
      const d = await vscode.workspace.openTextDocument(path.join(folder, 'accesslog_test.go'));
      const item = (kind: string, name: string, at?: number, parent?: vscode.TestItem): vscode.TestItem => {
        const made = controller.createTestItem(d.uri.with({ query: kind, fragment: name }).toString(), name, d.uri);
        if (at !== undefined) made.range = new vscode.Range(at, 0, at + 3, 0);
        (parent?.children ?? controller.items).add(made);
        return made;
      };
      const uri = d.uri.toString(), at = lineOf(d, 'func TestParse('), file = item('file', '');
      const test = item('test', 'TestParse', at, file), sub = item('test', 'TestParse/a (b)/request', undefined, test);
      const want = new Map<vscode.TestItem, object>([
        [test, { uri, run: '^TestParse$' }],
        [sub, { uri, run: '^TestParse$/^a \\(b\\)$/^request$' }],
        [item('benchmark', 'BenchmarkPages', lineOf(d, 'func BenchmarkPages('), file), { uri, bench: '^BenchmarkPages$' }],
        [item('test', '(*Suite).TestParse', 0, test), { uri, run: '^TestParse$' }], // go test knows the function that runs the suite
        [file, { uri }],
        [controller.createTestItem(`${vscode.Uri.file(folder).toString()}?module`, 'm', vscode.Uri.file(folder)), { dir: folder }],
      ]);
      for (const [of, arguments_] of want) assert.deepEqual(await testOfItem(parts.server, of), arguments_, of.id);
      // One of another extension, whose ids say nothing to us.
      const other = controller.createTestItem('7', 'TestParse', d.uri);
      other.range = new vscode.Range(at, 0, at + 3, 0);
      assert.equal((await testOfItem(parts.server, other))?.run, '^TestParse$');
      // So quick a test would be run again and again, until there are enough samples of it.
      const recorded = vscode.commands.executeCommand<RecordingResult>('sightline.profileTestItem', item('test', 'TestParse/request', undefined, test));
      await until('samples', () => parts.status.recording && /sample/.test(parts.status.text));
      await vscode.commands.executeCommand('sightline.stop');
      assert.equal((await recorded)?.name, 'TestParse/request');
    } finally {
      controller.dispose();
    }
  });

  describe('files of other profilers', () => {
    // Each is made here, by the tool whose format it is or by our own export, and opened as a person would.
    const made = (name: string): string => path.join(folder, name);
    const program = (): string => parts.server.executable;
    const run = (command: string, ...args: string[]): void => { execFileSync(command, args, { cwd: folder, stdio: 'pipe' }); };
    const exported = (name: string): void => run(program(), 'export', made('cpu.pprof'), '-o', made(name));
    const formats: { name: string; make: () => void; lines: boolean }[] = [
      { name: 'cpu.pprof', make: () => run('go', 'test', '-run', 'TestPages', '-count', '5', '-o', made('log.test'), '-cpuprofile', made('cpu.pprof')), lines: true },
      { name: 'perf.data', make: () => run('perf', 'record', '-q', '-F', '499', '-e', 'cpu-clock:u', '-g', '-o', made('perf.data'), made('log.test'), '-test.run', 'TestPages', '-test.count', '5'), lines: true },
      { name: 'cpu.speedscope.json', make: () => exported('cpu.speedscope.json'), lines: true },
      { name: 'cpu.perfView.xml', make: () => exported('cpu.perfView.xml'), lines: false },
      { name: 'cpu.perfView.xml.zip', make: () => exported('cpu.perfView.xml.zip'), lines: false },
      { name: 'cpu.folded', make: () => exported('cpu.folded'), lines: false },
    ];
    for (const f of formats) {
      it(`opens ${f.name}${f.lines ? ' and annotates the sources with it' : ''}`, async function () {
        this.timeout(180_000);
        f.make();
        const said = heard('showWarningMessage');
        try {
          const source = await open('accesslog.go');
          await vscode.commands.executeCommand('sightline.clear');
          await until('no numbers', () => drawn(source.document).size === 0);
          await vscode.commands.executeCommand('vscode.openWith', vscode.Uri.file(made(f.name)), 'sightline.profile', vscode.ViewColumn.Two);
          const view = await until('the graph', () => {
            const v = parts.flame.active;
            return v?.subject.source.file === made(f.name) && v.state && v.state.boxes > 5 ? v : undefined;
          });
          assert.ok(view.drawn?.labels.includes('accesslog.Parse'), view.drawn?.labels.join(' '));
          const capture = await until('the import', async () => (await parts.captures.refresh()).find((c) => c.shown));
          if (f.lines) {
            await until('numbers', () => /^\d+\.\d%/.test(drawn(source.document).get(lineOf(source.document, 'regexp.MustCompile'))?.text ?? ''));
          }
          assert.equal(await vscode.commands.executeCommand('sightline.importFile', vscode.Uri.file(made(f.name))), capture.id, 'not imported twice');
          assert.deepEqual(said.texts, []);
          view.panel.dispose();
        } finally {
          said.restore();
          await vscode.commands.executeCommand('sightline.openCapture', {});
        }
      });
    }
    it('says of a file that is none why it is not drawn', async function () {
      this.timeout(60_000);
      const said = heard('showWarningMessage');
      try {
        fs.writeFileSync(made('broken.pprof'), 'no profile at all');
        await vscode.commands.executeCommand('vscode.openWith', vscode.Uri.file(made('broken.pprof')), 'sightline.profile');
        await until('it', () => said.texts.some((t) => t.includes('broken.pprof')));
        parts.flame.active?.panel.dispose();
      } finally {
        said.restore();
      }
    });
  });

  it('says once that the server crashed, with its log, and works on', async function () {
    this.timeout(180_000);
    const said = heard('showWarningMessage');
    try {
      await profile('accesslog_test.go', 'TestPages');
      const source = await open('accesslog.go');
      await until('costs', () => drawn(source.document).size > 0);
      for (let i = 0; i < 2; i++) {
        const pid = parts.server.pid;
        assert.ok(pid);
        process.kill(pid, 'SIGKILL');
        await until('another server', () => parts.server.pid !== pid && parts.server.running);
      }
      assert.deepEqual(said.texts.filter((t) => t.includes('ended unexpectedly')).length, 1, said.texts.join('\n'));
      assert.ok(said.texts[0]?.includes(parts.server.log));
      assert.ok(fs.existsSync(parts.server.log));
      await until('numbers', () => drawn(source.document).size > 0);
      await agreed(source.document);
      // What serves all editors may crash, too: another is started with the server, and who was killed is said.
      const daemon = (): { pid: number; sessions: unknown[] } => JSON.parse(execFileSync(parts.server.executable, ['daemon', 'status', '--json'], { encoding: 'utf8' })) as { pid: number; sessions: unknown[] };
      const before = daemon(), pid = parts.server.pid;
      assert.equal(before.sessions.length, 1);
      process.kill(before.pid, 'SIGKILL');
      await until('another server', () => parts.server.pid !== pid && parts.server.running);
      // Where it died in the midst of an answer nothing more can be said to the editor, and only the log tells.
      await until('what was killed', () => errors.texts.some((t) => t.includes(`daemon (process ${before.pid}) was killed`)), 10_000).catch(() => {});
      await agreed(source.document);
      await until('numbers', () => drawn(source.document).size > 0);
      assert.notEqual(daemon().pid, before.pid);
    } finally {
      said.restore();
    }
  });
});
