import * as path from 'node:path';
import * as vscode from 'vscode';
import { titleOf, type Captures } from './captures';
import type { Decorations } from './decorations';
import { showDoctor, tellPermissions } from './doctor';
import { FlameView, type FlamePanel, type Subject } from './flame/view';
import { showHottest, showNeighbors } from './hottest';
import type { HotPathNode, HotPaths } from './hotpaths';
import type { ProcessPages } from './process/page';
import { chooseProcess } from './processes';
import * as rpc from './protocol';
import { reveal, type RevealOptions } from './reveal';
import { isCancelled, messageOf, type Server } from './server';
import { toggle } from './settings';
import type { Status } from './status';
import { testAt, testOfItem, type TestArguments } from './testing';
import type { Profiles } from './viewer';
import { chooseTarget, type TargetArguments } from './targets';
import { splitCommand } from './words';

/** Parts are what commands act on. */
export interface Parts {
  context: vscode.ExtensionContext;
  server: Server;
  decorations: Decorations;
  status: Status;
  captures: Captures;
  hotPaths: HotPaths;
  flame: FlamePanel;
  profiles: Profiles;
  processes: ProcessPages;
}

/** A RecordingResult is what the server answers to the commands that record. */
export interface RecordingResult { capture: string; root: string; name: string; samples: number; failed: boolean; discarded: boolean; message: string }

interface CaptureArguments { capture?: string; root?: string }
interface ShowState { metric: string; unit: string; capture: string }

/** registerCommands registers every command, those of the server too: see Client. */
export function registerCommands(p: Parts): void {
  const { context, server, captures, hotPaths, flame } = p;

  const register = (id: string, run: (...args: never[]) => unknown): void => {
    context.subscriptions.push(vscode.commands.registerCommand(id, async (...args: never[]) => {
      try {
        return await run(...args);
      } catch (err) {
        if (isCancelled(err)) return undefined;
        server.output.error(`${id}: ${messageOf(err)}`);
        // Where the server did not start, that was told.
        if (server.running) {
          void vscode.window.showErrorMessage(messageOf(err), 'Doctor').then((what) => { if (what) void vscode.commands.executeCommand('sightline.doctor'); });
        }
        return undefined;
      }
    }));
  };

  const cursor = (): { uri: vscode.Uri; line: number; document: vscode.TextDocument } => {
    const editor = vscode.window.activeTextEditor;
    if (!editor) throw new Error('No editor is active: open a source file first.');
    return { uri: editor.document.uri, line: editor.selection.active.line, document: editor.document };
  };

  // Recording runs programs of the folder.
  const record = async (command: string, args: object): Promise<RecordingResult | undefined> => {
    if (!vscode.workspace.isTrusted) {
      const answer = await vscode.window.showWarningMessage('Recording runs programs of this folder, so it has to be trusted first.', 'Manage Trust');
      if (answer) await vscode.commands.executeCommand('workbench.trust.manage');
      return undefined;
    }
    void tellPermissions(server, context.globalState);
    const r = await server.record<RecordingResult>(command, args);
    void captures.refresh();
    return r;
  };
  const saved = async (uri?: vscode.Uri): Promise<void> => {
    // What is on disk is what is built.
    const dirty = vscode.workspace.textDocuments.filter((d) => d.isDirty && d.uri.scheme === 'file' && (!uri || path.dirname(d.uri.fsPath) === path.dirname(uri.fsPath)));
    await Promise.all(dirty.map((d) => d.save()));
  };

  const profileTest = async (args?: TestArguments | vscode.Uri, kinds?: string[]): Promise<RecordingResult | unknown> => {
    let test = args instanceof vscode.Uri ? undefined : args;
    if (!test || (!test.uri && !test.dir)) {
      const at = cursor();
      test = await testAt(server, at.document, at.line);
      if (!test) {
        // Of a C++ test whose program is not known the server asks where that is.
        const ask = (await server.actionsAt(at.uri, at.line)).find((a) => a.command === 'sightline.createTargets');
        if (ask) return server.execute('sightline.createTargets', ask.arguments[0] as object);
      }
      if (!test) throw new Error('No test is at the cursor: put it into a Go, Rust, GoogleTest or Catch2 test.');
    }
    await saved(test.uri ? vscode.Uri.parse(test.uri) : undefined);
    return record('sightline.profileTest', kinds ? { ...test, kinds } : test);
  };
  register('sightline.profileTest', (args?: TestArguments | vscode.Uri) => profileTest(args));
  register('sightline.profileTestMemory', (args?: TestArguments | vscode.Uri) => profileTest(args, ['heap']));
  register('sightline.profilePackage', async (args?: { uri: string } | vscode.Uri) => {
    const uri = args instanceof vscode.Uri ? args : args?.uri ? vscode.Uri.parse(args.uri) : cursor().uri;
    await saved(uri);
    return record('sightline.profilePackage', { uri: uri.toString() });
  });
  register('sightline.profileTestItem', async (item?: vscode.TestItem) => {
    const test = item && await testOfItem(server, item);
    if (!test) throw new Error('This item has no place in a file.');
    await saved(test.uri ? vscode.Uri.parse(test.uri) : undefined);
    return record('sightline.profileTest', test);
  });
  register('sightline.record', async (args?: object) => {
    if (args && Object.keys(args).length > 0) return record('sightline.record', args);
    const key = 'sightline.command';
    const line = await vscode.window.showInputBox({
      title: 'Record a command', prompt: 'Program and arguments; it runs in the first folder', value: context.workspaceState.get<string>(key, ''),
      placeHolder: './server --port 8080',
      validateInput: (v) => { try { return splitCommand(v).length > 0 ? undefined : 'A command has a program.'; } catch (err) { return messageOf(err); } },
    });
    if (!line) return undefined;
    await context.workspaceState.update(key, line);
    return record('sightline.record', { command: splitCommand(line) });
  });
  register('sightline.recordTarget', async (args?: TargetArguments | vscode.Uri) => {
    if (!vscode.workspace.isTrusted) return record('sightline.recordTarget', {}); // which says so
    const target = args && !(args instanceof vscode.Uri) && args.name ? args : await chooseTarget(server);
    if (!target) return undefined;
    await saved(target.uri ? vscode.Uri.parse(target.uri) : undefined);
    return record('sightline.recordTarget', target);
  });
  register('sightline.createTargets', (args?: { uri?: string } | vscode.Uri) => {
    const given = args && !(args instanceof vscode.Uri) ? args.uri : undefined;
    const uri = given ?? vscode.window.activeTextEditor?.document.uri.toString() ?? '';
    return server.execute('sightline.createTargets', uri.startsWith('file:') ? { uri } : {});
  });
  register('sightline.attach', async () => {
    const chosen = await chooseProcess(server);
    return chosen && record('sightline.record', { pid: chosen.pid });
  });
  register('sightline.recordMachine', () => record('sightline.record', { machine: true }));
  register('sightline.stop', () => server.execute('sightline.stop'));
  register('sightline.discard', () => server.execute('sightline.discard'));

  register('sightline.clear', (args?: object) => server.execute('sightline.clear', args && !(args instanceof vscode.Uri) && 'uri' in args ? args : undefined));
  register('sightline.setMetric', async (args?: object) => {
    if (args && !(args instanceof vscode.Uri)) return server.execute('sightline.setMetric', args);
    const at = vscode.window.activeTextEditor?.document.uri;
    const shown = at && await server.request<rpc.LinesResult>(rpc.MethodLines, { textDocument: { uri: at.toString() } } satisfies rpc.LinesParams);
    const kinds = shown && shown.kinds.length > 1 ? shown.kinds : [];
    const separator = { label: '', kind: vscode.QuickPickItemKind.Separator, args: {} };
    const chosen = await vscode.window.showQuickPick([
      ...kinds.map((k) => ({ label: k.text, description: k.kind === shown?.kind ? 'shown now' : '', args: { kind: k.kind } })),
      ...kinds.length > 0 ? [separator] : [],
      { label: 'Total', description: 'the line and all that it calls', args: { metric: 'total' } },
      { label: 'Self', description: 'the line by itself', args: { metric: 'self' } },
      separator,
      { label: 'Percent and time', args: { unit: 'both' } },
      { label: 'Percent', args: { unit: 'percent' } },
      { label: 'Time', args: { unit: 'time' } },
    ], { placeHolder: 'What the ends of lines say' });
    return chosen && server.execute<ShowState>('sightline.setMetric', chosen.args);
  });
  register('sightline.toggleMetric', () => server.execute<ShowState>('sightline.setMetric', {}));
  for (const id of ['sightline.nextHotLine', 'sightline.previousHotLine']) {
    register(id, async (args?: { uri?: string; line?: number }) => {
      const given = args && !(args instanceof vscode.Uri) && args.uri;
      const at = given ? undefined : cursor();
      return server.execute(id, at ? { uri: at.uri.toString(), line: at.line } : args);
    });
  }
  register('sightline.goToFrame', (args: object) => server.execute('sightline.goToFrame', args));
  register('sightline.reveal', (at: rpc.Location, options?: RevealOptions) => reveal(at, options));

  register('sightline.hottestLines', () => showHottest(server, 'lines'));
  register('sightline.hottestFunctions', () => showHottest(server, 'functions'));
  for (const side of ['callers', 'callees'] as const) {
    register(`sightline.${side}`, () => { const at = cursor(); return showNeighbors(server, side, at.uri, at.line); });
  }

  const follow = (): void => {
    hotPaths.show({ source: {} });
    if (flame.current && !flame.current.subject.source.file) void flame.current.load({ ...flame.current.subject, source: {} });
    void captures.refresh();
  };
  register('sightline.openCapture', async (args?: CaptureArguments) => {
    const given = args && !(args instanceof vscode.Uri) ? args : undefined;
    const capture = given ? given.capture : (await captures.pick('Show which capture?'))?.id;
    if (capture === undefined && !given) return undefined;
    const state = await server.execute<ShowState>('sightline.openCapture', given ?? { capture });
    follow();
    return state;
  });

  const compare = async (capture: string): Promise<void> => {
    await server.execute('sightline.setBaseline', { capture });
    hotPaths.show({ source: {}, before: { capture }, focus: undefined });
    if (flame.current) void flame.current.load({ ...flame.current.subject, source: {}, before: { capture } });
    await captures.refresh();
    await vscode.commands.executeCommand('sightline.hotPaths.focus');
  };
  register('sightline.compare', async () => {
    const chosen = await captures.pick('Compare what is shown with which capture of before?');
    if (chosen) await compare(chosen.id);
  });
  register('sightline.setBaseline', (args?: CaptureArguments | string) => {
    const capture = typeof args === 'string' ? args : args?.capture ?? '';
    return capture ? compare(capture) : vscode.commands.executeCommand('sightline.clearBaseline');
  });
  register('sightline.clearBaseline', async () => {
    await server.execute('sightline.setBaseline', { capture: '' });
    hotPaths.show({ before: undefined });
    if (flame.current) void flame.current.load({ source: flame.current.subject.source, filter: flame.current.subject.filter });
    await captures.refresh();
  });
  register('sightline.importFile', async (args?: { path?: string } | vscode.Uri | string) => {
    let uri = args instanceof vscode.Uri ? args : typeof args === 'string' ? vscode.Uri.file(args) : args?.path ? vscode.Uri.file(args.path) : undefined;
    uri ??= (await vscode.window.showOpenDialog({ title: 'Import a file of another profiler', openLabel: 'Import', canSelectMany: false }))?.[0];
    if (!uri) return undefined;
    const capture = await p.profiles.annotate(uri);
    if (capture) follow();
    return capture;
  });

  // A capture of the view, with which the command works.
  register('sightline.captures.refresh', () => captures.refresh());
  for (const pinned of [true, false]) {
    register(pinned ? 'sightline.captures.pin' : 'sightline.captures.unpin', async (c: rpc.CaptureInfo) => {
      await server.execute('sightline.pinCapture', { capture: c.id, pinned });
      await captures.refresh();
    });
  }
  register('sightline.captures.note', async (c: rpc.CaptureInfo, text?: string) => {
    const note = text ?? await vscode.window.showInputBox({ title: `Rename ${c.target}`, prompt: 'Empty for what was recorded', value: c.note, placeHolder: c.target });
    if (note === undefined) return;
    await server.execute('sightline.noteCapture', { capture: c.id, note });
    await captures.refresh();
  });
  register('sightline.captures.delete', async (c: rpc.CaptureInfo, sure?: boolean) => {
    const answer = sure === true ? 'Delete' : await vscode.window.showWarningMessage(`Delete the capture “${titleOf(c)}”?`, { modal: true, detail: `${c.text}\nIt cannot be brought back.` }, 'Delete');
    if (answer !== 'Delete') return;
    await server.execute('sightline.removeCapture', { capture: c.id });
    follow();
  });
  register('sightline.captures.baseline', (c: rpc.CaptureInfo) => compare(c.id));
  register('sightline.captures.flame', (c: rpc.CaptureInfo) => { flame.show({ source: { capture: c.id }, filter: hotPaths.current.filter }); });
  // The server's own, for lenses and code actions.
  for (const id of ['sightline.pinCapture', 'sightline.noteCapture', 'sightline.removeCapture', 'sightline.savePreset']) {
    register(id, async (args: object) => { const r = await server.execute(id, args); follow(); return r; });
  }

  register('sightline.hotPaths.refresh', () => hotPaths.refresh());
  register('sightline.hotPaths.preset', () => hotPaths.choosePreset());
  register('sightline.hotPaths.view', () => hotPaths.chooseView());
  register('sightline.hotPaths.expand', () => hotPaths.expand());
  register('sightline.hotPaths.more', (node: HotPathNode) => hotPaths.more(node));
  register('sightline.hotPaths.callers', (node: HotPathNode) => { if ('row' in node) hotPaths.show({ view: rpc.ViewCallers, focus: node.row.name }); });
  register('sightline.hotPaths.callees', (node: HotPathNode) => { if ('row' in node) hotPaths.show({ view: rpc.ViewCallees, focus: node.row.name }); });
  register('sightline.hotPaths.flame', (node: HotPathNode) => {
    if (!('row' in node)) return;
    const { source, before, filter } = hotPaths.current;
    flame.show({ source, filter, ...(before ? { before } : {}) }).find(node.row.name, true);
  });

  const subject = (): Subject => {
    const { source, before } = hotPaths.current;
    return { source, filter: {}, ...(before ? { before } : {}) };
  };
  register('sightline.flameGraph', () => { flame.show(subject()); });
  register('sightline.revealInFlameGraph', async () => {
    const editor = vscode.window.activeTextEditor;
    if (!editor) return undefined;
    if (!FlameView.active) flame.show(subject());
    const name = await flame.follow(editor, true);
    if (name === '') void vscode.window.showInformationMessage('No function with a cost is at the cursor.');
    return name;
  });
  register('sightline.exportSVG', async (to?: vscode.Uri) => {
    const view = FlameView.active ?? flame.show(subject());
    return view.save(to instanceof vscode.Uri && to.fsPath.endsWith('.svg') ? to : undefined);
  });

  register('sightline.doctor', () => showDoctor(server));
  register('sightline.toggleDecorations', () => toggle('decorations.enable'));
  register('sightline.toggleLenses', () => toggle('lenses.functions'));
  register('sightline.restartServer', () => server.restart());
  register('sightline.showLog', () => server.showLog());

  register('sightline.menu', async () => {
    const recording = p.status.recording;
    interface Item extends vscode.QuickPickItem { command?: string }
    const separator: Item = { label: '', kind: vscode.QuickPickItemKind.Separator };
    const items: Item[] = recording
      ? [
        { label: '$(debug-stop) Stop and keep', description: 'what was recorded so far', command: 'sightline.stop' },
        { label: '$(trash) Stop and drop', command: 'sightline.discard' },
      ]
      : [
        { label: '$(flame) Profile the test at the cursor', command: 'sightline.profileTest' },
        { label: '$(rocket) Record a launch target…', command: 'sightline.recordTarget' },
        { label: '$(record) Record a command…', command: 'sightline.record' },
        { label: '$(plug) Attach to a process…', command: 'sightline.attach' },
        { label: '$(search) Inspect a process…', command: 'sightline.inspectProcess' },
      ];
    items.push(separator,
      { label: '$(list-ordered) Hottest lines…', command: 'sightline.hottestLines' },
      { label: '$(symbol-function) Hottest functions…', command: 'sightline.hottestFunctions' },
      { label: '$(graph) Flame graph', command: 'sightline.flameGraph' },
      { label: '$(arrow-swap) Switch between self and total', command: 'sightline.toggleMetric' },
      { label: '$(eye) Open a capture…', command: 'sightline.openCapture' },
      { label: '$(diff) Compare with a baseline…', command: 'sightline.compare' },
      { label: '$(clear-all) Clear the numbers', command: 'sightline.clear' },
      separator,
      { label: '$(pulse) Doctor', description: 'what can be recorded here', command: 'sightline.doctor' },
      { label: '$(output) Show the log', command: 'sightline.showLog' });
    const active = vscode.window.activeTextEditor?.document.uri;
    const chosen = await vscode.window.showQuickPick(items, { placeHolder: (active && p.decorations.result(active)?.note) || 'Sightline' });
    if (chosen?.command) await vscode.commands.executeCommand(chosen.command);
  });
}
