import { randomBytes } from 'node:crypto';
import * as vscode from 'vscode';
import * as rpc from '../protocol';
import { reveal } from '../reveal';
import { isCancelled, messageOf, type Server } from '../server';
import type { FromView, ToView, ViewState } from './messages';

/** Subject is what a graph is drawn of. */
export interface Subject { source: rpc.SourceRef; filter: rpc.StackFilter; before?: rpc.SourceRef; focus?: string }

/** FlameView is one flame graph in one webview: a panel's or a custom editor's. */
export class FlameView implements vscode.Disposable {
  /** active is the graph that a person looked at last. */
  static active: FlameView | undefined;
  private readonly subscriptions: vscode.Disposable[] = [];
  private ready = false;
  private readonly clock: NodeJS.Timeout;
  private waiting: ToView[] = [];
  private asking: vscode.CancellationTokenSource | undefined;
  private graph: rpc.FlameResult | undefined;
  /** drawn is the graph itself, for tests. */
  get drawn(): rpc.FlameResult | undefined { return this.graph; }
  /** state is what the graph shows, for tests. */
  state: ViewState | undefined;

  constructor(
    private readonly server: Server, extensionUri: vscode.Uri, readonly panel: vscode.WebviewPanel, public subject: Subject,
  ) {
    const media = vscode.Uri.joinPath(extensionUri, 'media'), dist = vscode.Uri.joinPath(extensionUri, 'dist');
    panel.webview.options = { enableScripts: true, localResourceRoots: [media, dist] };
    panel.iconPath = { dark: vscode.Uri.joinPath(media, 'sightline-dark.svg'), light: vscode.Uri.joinPath(media, 'sightline-light.svg') };
    this.subscriptions.push(
      panel.webview.onDidReceiveMessage((m: FromView) => this.receive(m)),
      panel.onDidChangeViewState(() => { if (panel.active) FlameView.active = this; }),
      vscode.workspace.onDidChangeWorkspaceFolders(() => this.sendOwn()),
    );
    this.clock = setInterval(() => void this.age(), 60_000);
    panel.onDidDispose(() => this.dispose());
    panel.webview.html = page(panel.webview, vscode.Uri.joinPath(dist, 'flame.js'), vscode.Uri.joinPath(media, 'flame.css'));
    FlameView.active = this;
    void this.load();
  }

  private send(m: ToView): void {
    if (this.ready) void this.panel.webview.postMessage(m);
    else this.waiting.push(m);
  }

  private sendOwn(): void {
    this.send({ type: 'own', prefixes: (vscode.workspace.workspaceFolders ?? []).map((f) => `${f.uri.toString()}/`) });
  }

  private receive(m: FromView): void {
    switch (m.type) {
      case 'ready':
        this.ready = true;
        this.sendOwn();
        for (const w of this.waiting.splice(0)) void this.panel.webview.postMessage(w);
        // A webview that was hidden begins anew.
        if (this.graph) this.send({ type: 'graph', graph: this.graph, diff: this.subject.before !== undefined });
        break;
      case 'open':
        void reveal(m.location, { focus: false, preview: true });
        break;
      case 'copy':
        void vscode.env.clipboard.writeText(m.text);
        break;
      case 'save':
        void this.save();
        break;
      case 'state':
        this.state = m.state;
        break;
    }
  }

  private params(): rpc.FlameParams {
    const { source, filter, before, focus } = this.subject;
    return { ...source, filter, ...(before ? { before } : {}), ...(focus ? { focus } : {}) };
  }

  /** load asks for the graph again. */
  async load(subject: Subject = this.subject): Promise<void> {
    this.subject = subject;
    this.asking?.cancel();
    const asking = this.asking = new vscode.CancellationTokenSource();
    try {
      const graph = await this.server.request<rpc.FlameResult>(rpc.MethodFlame, this.params(), asking.token);
      if (asking.token.isCancellationRequested) return;
      const first = this.ready;
      this.graph = graph;
      if (first) this.send({ type: 'graph', graph, diff: subject.before !== undefined });
    } catch (err) {
      if (!isCancelled(err)) this.send({ type: 'error', text: messageOf(err) });
    }
  }

  /** age says anew how old what is drawn is. */
  private async age(): Promise<void> {
    if (!this.panel.visible || !vscode.window.state.focused || !this.graph || !this.server.running || this.subject.before) return;
    const params: rpc.StacksParams = { ...this.subject.source, filter: this.subject.filter, view: rpc.ViewByName, limit: 1 };
    const r = await this.server.request<rpc.StacksResult>(rpc.MethodStacks, params).catch(() => undefined);
    if (r && r.capture === this.graph.capture) this.send({ type: 'title', text: r.title });
  }

  /** find shows the boxes of a function and goes to the widest. */
  find(name: string, zoom: boolean): void { this.send({ type: 'find', name, zoom }); }

  /** save writes the picture that the server draws where the person says. */
  async save(to?: vscode.Uri): Promise<vscode.Uri | undefined> {
    try {
      const { svg } = await this.server.request<rpc.FlameResult>(rpc.MethodFlame, { ...this.params(), svg: true });
      if (!svg) throw new Error('The server drew no picture.');
      const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
      to ??= await vscode.window.showSaveDialog({
        title: 'Save the flame graph', filters: { 'SVG pictures': ['svg'] },
        ...(folder ? { defaultUri: vscode.Uri.joinPath(folder, 'flame.svg') } : {}),
      });
      if (!to) return undefined;
      await vscode.workspace.fs.writeFile(to, new TextEncoder().encode(svg));
      return to;
    } catch (err) {
      void vscode.window.showErrorMessage(`The flame graph is not saved: ${messageOf(err)}`);
      return undefined;
    }
  }

  dispose(): void {
    this.asking?.cancel();
    clearInterval(this.clock);
    for (const s of this.subscriptions.splice(0)) s.dispose();
    if (FlameView.active === this) FlameView.active = undefined;
  }
}

/** page is the webview's page: one script, one style sheet, nothing from the network. */
function page(webview: vscode.Webview, script: vscode.Uri, style: vscode.Uri): string {
  const nonce = randomBytes(16).toString('base64');
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src ${webview.cspSource}; script-src 'nonce-${nonce}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="${webview.asWebviewUri(style).toString()}">
<title>Flame graph</title></head>
<body>
<header>
  <div id="title"><strong></strong><span></span></div>
  <input id="search" type="search" placeholder="Find functions" aria-label="Find functions" spellcheck="false">
  <span id="matches" aria-live="polite"></span>
  <button id="reset" title="Show the whole graph (Escape)" disabled>Whole graph</button>
  <button id="save" title="Save as an SVG picture">Save SVG</button>
</header>
<main><div id="scroll" tabindex="0" role="application" aria-label="Flame graph"><div id="size"><canvas id="canvas"></canvas></div></div>
<div id="tip" role="tooltip" hidden></div><div id="note" hidden></div></main>
<footer><div id="legend"></div><div id="status" aria-live="polite"></div></footer>
<script nonce="${nonce}" src="${webview.asWebviewUri(script).toString()}"></script>
</body></html>`;
}

/** FlamePanel keeps the one panel of the command that shows a flame graph. */
export class FlamePanel implements vscode.Disposable {
  private view: FlameView | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly subscriptions: vscode.Disposable[] = [];

  constructor(private readonly server: Server, private readonly extensionUri: vscode.Uri, onEnded: vscode.Event<void>) {
    this.subscriptions.push(
      onEnded(() => { if (this.view && !this.view.subject.source.capture && !this.view.subject.source.file) void this.view.load(); }),
      // The function that the cursor is in is marked in a graph that can be seen.
      vscode.window.onDidChangeTextEditorSelection((e) => {
        if (!FlameView.active?.panel.visible || e.kind === undefined) return;
        clearTimeout(this.timer);
        this.timer = setTimeout(() => void this.follow(e.textEditor, false), 200);
      }),
    );
  }

  get current(): FlameView | undefined { return this.view; }

  /** active is the graph that a person looked at last, be it a custom editor's. */
  get active(): FlameView | undefined { return FlameView.active; }

  show(subject: Subject): FlameView {
    if (this.view) {
      void this.view.load(subject);
      this.view.panel.reveal(undefined, false);
      return this.view;
    }
    const panel = vscode.window.createWebviewPanel('sightline.flame', 'Flame Graph', { viewColumn: vscode.ViewColumn.Beside, preserveFocus: false }, { retainContextWhenHidden: true });
    const view = this.view = new FlameView(this.server, this.extensionUri, panel, subject);
    panel.onDidDispose(() => { if (this.view === view) this.view = undefined; });
    return view;
  }

  /** follow marks the function at an editor's cursor in the graph. */
  async follow(editor: vscode.TextEditor, zoom: boolean): Promise<string> {
    const view = FlameView.active;
    if (!view) return '';
    try {
      const r = await this.server.request<rpc.NeighborsResult>(rpc.MethodNeighbors, {
        textDocument: { uri: editor.document.uri.toString() }, line: editor.selection.active.line,
      } satisfies rpc.NeighborsParams);
      view.find(r.name, zoom);
      return r.name;
    } catch (err) {
      if (zoom) throw err;
      return '';
    }
  }

  dispose(): void {
    clearTimeout(this.timer);
    for (const s of this.subscriptions) s.dispose();
    this.view?.panel.dispose();
  }
}
