// Runs inside the extension host and writes what it measured.
import fs from 'node:fs';
import path from 'node:path';
import * as vscode from 'vscode';
import type { Parts } from '../../src/commands';
import * as rpc from '../../src/protocol';

interface Row { what: string; value: number; budget: number }

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
const median = (all: number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1] ?? NaN;
const percentile95 = (all: number[]): number => [...all].sort((a, b) => a - b)[Math.floor(all.length * 0.95)] ?? NaN;

export async function run(): Promise<void> {
  const rows: Row[] = [];
  const extension = vscode.extensions.getExtension<Parts>('sightline-dev.sightline');
  if (!extension) throw new Error('the extension is not there');
  const parts = await extension.activate();
  await until('the server', () => parts.server.running);
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? '';

  // Click to numbers: what remains after the test has ended, which is the phase after recording.
  const source = await vscode.window.showTextDocument(vscode.Uri.file(path.join(folder, 'accesslog.go')));
  const after: number[] = [];
  for (let i = 0; i < 3; i++) {
    await vscode.commands.executeCommand('sightline.clear');
    await until('no numbers', () => (parts.decorations.drawn(source.document.uri)?.size ?? 0) === 0);
    let ended = 0, first = 0, live = true;
    // Live numbers have no capture yet.
    const final = (): boolean => (parts.decorations.drawn(source.document.uri)?.size ?? 0) > 0 && parts.decorations.result(source.document.uri)?.capture !== '';
    const changed = parts.server.onChanged((p) => { if (ended === 0 && live && p.recording && p.phase !== 'building' && p.phase !== 'recording') ended = performance.now(); });
    const numbers = parts.decorations.onNumbers(() => { if (ended > 0 && first === 0 && final()) first = performance.now(); });
    await vscode.commands.executeCommand('sightline.profileTest', { uri: vscode.Uri.file(path.join(folder, 'accesslog_test.go')).toString(), run: '^TestPages$' });
    if (ended === 0) ended = performance.now(); // it went by between two reports: the command's end is later
    await until('numbers', () => first > 0 || final());
    live = false;
    changed.dispose();
    numbers.dispose();
    after.push((first || performance.now()) - ended);
  }
  rows.push({ what: 'end of the test to its first final numbers (median of 3)', value: median(after), budget: 500 });

  // Typing in a large file with a number on each line. The server's answers are replayed: what is
  // measured is the extension's own part.
  const lines = 5000;
  const large = path.join(folder, 'large.go');
  fs.writeFileSync(large, `package accesslog\n\n${Array.from({ length: lines }, (_, i) => `var v${i} = ${i}`).join('\n')}\n`);
  let shift = 0;
  const server = parts.server as unknown as { request: (...args: unknown[]) => Promise<unknown> };
  const request = server.request;
  server.request = async (...args) => {
    if (args[0] !== rpc.MethodLines) return request.apply(parts.server, args);
    const result: rpc.LinesResult = {
      capture: 'x', kind: 'cpu', unit: 'ns', total: 1e9, stale: 0, note: '', kinds: [], lines: Array.from({ length: lines }, (_, i) => ({
        line: i + 2 + shift, self: i, total: i * 2, count: 1, heat: i / lines, text: `${(i / 50).toFixed(1)}% · ${i} ms`,
      })),
    };
    return JSON.parse(JSON.stringify(result)) as unknown;
  };
  const editor = await vscode.window.showTextDocument(vscode.Uri.file(large));
  await until('numbers', () => parts.decorations.drawn(editor.document.uri)?.size === lines);
  await new Promise((resolve) => setTimeout(resolve, 3000)); // the browser draws them
  for (const [what, text, breaks] of [['a character', 'x', 0], ['a line break above all', '\n', 1]] as const) {
    const keys: number[] = [];
    for (let i = 0; i < 60; i++) {
      shift += breaks;
      await editor.edit((b) => b.insert(new vscode.Position(0, 0), breaks ? text : `/*${text}*/`), { undoStopBefore: false, undoStopAfter: false });
      const edit = parts.decorations.spent.edit, before = parts.decorations.spent.answer;
      await until('the answer', () => parts.decorations.spent.answer !== before);
      keys.push(edit + parts.decorations.spent.answer);
    }
    rows.push({ what: `${lines} numbers, ${what}: extension per key (median)`, value: median(keys), budget: 16 });
    rows.push({ what: `${lines} numbers, ${what}: extension per key (95th of 100)`, value: percentile95(keys), budget: 16 });
  }
  server.request = request;
  fs.writeFileSync(process.env.SIGHTLINE_RESULTS ?? '', JSON.stringify(rows));
}
