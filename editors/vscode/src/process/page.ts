import { randomBytes } from 'node:crypto';
import * as vscode from 'vscode';
import { chooseProcess } from '../processes';
import * as rpc from '../protocol';
import { reveal } from '../reveal';
import { isCancelled, messageOf, type Server } from '../server';
import type { FromPage, PageState, ToPage } from './messages';

/** every is how often a page that can be seen asks, in milliseconds. */
const every = 1000;

/** ProcessPage shows one process: it asks each second while it can be seen, and not at all while it cannot. */
export class ProcessPage implements vscode.Disposable {
  private readonly subscriptions: vscode.Disposable[] = [];
  private timer: NodeJS.Timeout | undefined;
  private asking: vscode.CancellationTokenSource | undefined;
  private start = '';
  private ready = false;
  private last: ToPage | undefined;
  private ended = false;
  /** asked counts requests, and state is what the page shows: for tests. */
  asked = 0;
  state: PageState | undefined;

  constructor(private readonly server: Server, extensionUri: vscode.Uri, readonly panel: vscode.WebviewPanel, readonly pid: number) {
    const media = vscode.Uri.joinPath(extensionUri, 'media'), dist = vscode.Uri.joinPath(extensionUri, 'dist');
    panel.webview.options = { enableScripts: true, localResourceRoots: [media, dist] };
    panel.iconPath = { dark: vscode.Uri.joinPath(media, 'sightline-dark.svg'), light: vscode.Uri.joinPath(media, 'sightline-light.svg') };
    this.subscriptions.push(
      panel.webview.onDidReceiveMessage((m: FromPage) => this.receive(m)),
      panel.onDidChangeViewState(() => { if (panel.visible) void this.ask(); else this.pause(); }),
    );
    panel.onDidDispose(() => this.dispose());
    panel.webview.html = html(panel.webview, vscode.Uri.joinPath(dist, 'process.js'), vscode.Uri.joinPath(media, 'process.css'));
    void this.ask();
  }

  private receive(m: FromPage): void {
    switch (m.type) {
      case 'ready': // also a page that was hidden, and begins anew
        this.ready = true;
        if (this.last) void this.panel.webview.postMessage(this.last);
        break;
      case 'open':
        void reveal(m.location, { focus: false, preview: true });
        break;
      case 'state':
        this.state = m.state;
        break;
    }
  }

  private send(m: ToPage): void {
    this.last = m;
    if (this.ready) void this.panel.webview.postMessage(m);
  }

  private pause(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.asking?.cancel();
    this.asking = undefined;
  }

  private async ask(): Promise<void> {
    if (this.asking || this.ended) return;
    clearTimeout(this.timer);
    const asking = this.asking = new vscode.CancellationTokenSource();
    this.asked++;
    try {
      const params: rpc.ProcessParams = { pid: this.pid, leaks: true, map: true, ...(this.start ? { start: this.start } : {}) };
      const process = await this.server.request<rpc.ProcessResult>(rpc.MethodProcess, params, asking.token);
      if (asking.token.isCancellationRequested) return;
      this.start = process.start;
      this.panel.title = `${process.name} (${process.pid})`;
      this.send({ type: 'process', process });
    } catch (err) {
      if (asking.token.isCancellationRequested || isCancelled(err)) return;
      this.ended = true;
      this.send({ type: 'ended', text: messageOf(err) });
    } finally {
      if (this.asking === asking) {
        this.asking = undefined;
        if (this.panel.visible && !this.ended) this.timer = setTimeout(() => void this.ask(), every);
      }
    }
  }

  dispose(): void {
    this.ended = true;
    this.pause();
    for (const s of this.subscriptions.splice(0)) s.dispose();
  }
}

/** html is the webview's page: one script, one style sheet, nothing from the network. */
function html(webview: vscode.Webview, script: vscode.Uri, style: vscode.Uri): string {
  const nonce = randomBytes(16).toString('base64');
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src ${webview.cspSource}; script-src 'nonce-${nonce}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="${webview.asWebviewUri(style).toString()}">
<title>Process</title></head>
<body>
<header><strong id="title">…</strong><span id="command"></span><span id="note" role="status"></span></header>
<main>
  <section id="over-time" aria-label="Over time"><figure><figcaption>CPU <b id="cpu"></b></figcaption><canvas id="cpu-line"></canvas></figure><figure><figcaption>Resident <b id="memory"></b></figcaption><canvas id="memory-line"></canvas></figure></section>
  <section><dl id="facts"></dl></section>
  <section id="map-part" hidden>
    <h2>Memory <small id="map-text"></small></h2>
    <p id="map-note" class="quiet"></p>
    <div id="kind-bar" role="img"></div>
    <div class="wide"><table id="kinds"></table></div>
    <div id="terms-part" hidden>
      <h2>What holds it</h2>
      <table><thead><tr><th></th><th class="n">Resident</th><th class="n">Share</th><th class="n">Number</th><th>What to do</th></tr></thead><tbody id="terms"></tbody></table>
      <p id="terms-sum" class="quiet"></p>
    </div>
    <div id="stacks-part" hidden><h2>Stacks of goroutines</h2><div id="stacks" class="places"></div></div>
    <details id="regions-part"><summary>Regions <small id="regions-count"></small></summary>
      <table><thead><tr><th class="n">Start</th><th class="n">Size</th><th class="n">Resident</th><th>May</th><th>Kind</th><th>What</th></tr></thead><tbody id="regions"></tbody></table>
    </details>
  </section>
  <section id="leaks-part" hidden><h2>Growing descriptors</h2><div id="leaks" class="places"></div></section>
  <section><h2>Threads <small id="threads-count"></small></h2><table><thead><tr><th class="n">on CPU</th><th class="n">TID</th><th>Thread</th><th>State</th><th>Waits in</th></tr></thead><tbody id="threads"></tbody></table></section>
  <section><h2>Open files <small id="files-count"></small></h2><table><thead><tr><th class="n">FD</th><th>Type</th><th>Name</th></tr></thead><tbody id="files"></tbody></table></section>
</main>
<script nonce="${nonce}" src="${webview.asWebviewUri(script).toString()}"></script>
</body></html>`;
}

/** ProcessPages keeps a page for each process that is looked at, and registers the command that opens them. */
export class ProcessPages implements vscode.Disposable {
  private readonly pages = new Map<number, ProcessPage>();
  private readonly command: vscode.Disposable;

  constructor(private readonly server: Server, private readonly extensionUri: vscode.Uri) {
    this.command = vscode.commands.registerCommand('sightline.inspectProcess', async (pid?: number) => {
      if (typeof pid !== 'number') pid = (await chooseProcess(server, 'Inspect a process'))?.pid;
      return pid === undefined ? undefined : this.show(pid);
    });
  }

  get(pid: number): ProcessPage | undefined { return this.pages.get(pid); }

  show(pid: number): ProcessPage {
    const known = this.pages.get(pid);
    if (known) {
      known.panel.reveal();
      return known;
    }
    const panel = vscode.window.createWebviewPanel('sightline.process', `Process ${pid}`, vscode.ViewColumn.Beside, {});
    const page = new ProcessPage(this.server, this.extensionUri, panel, pid);
    this.pages.set(pid, page);
    panel.onDidDispose(() => { if (this.pages.get(pid) === page) this.pages.delete(pid); });
    return page;
  }

  dispose(): void {
    this.command.dispose();
    for (const p of this.pages.values()) p.panel.dispose();
  }
}
