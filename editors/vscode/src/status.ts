import * as vscode from 'vscode';
import type { Decorations } from './decorations';
import { MethodStatus, type ChangedParams, type StatusResult } from './protocol';
import { isSource, type Server } from './server';

/** Status is the item in the status bar, and the context keys that commands are enabled by. */
export class Status implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('sightline.status', vscode.StatusBarAlignment.Left, -10);
  private readonly subscriptions: vscode.Disposable[] = [];
  private last: StatusResult | undefined;
  private readonly ended = new vscode.EventEmitter<void>();
  /** onEnded tells that a recording ended. */
  readonly onEnded = this.ended.event;

  constructor(private readonly server: Server, private readonly decorations: Decorations) {
    this.item.name = 'Sightline';
    this.item.command = 'sightline.menu';
    this.subscriptions.push(
      this.item,
      server.onChanged((p: ChangedParams) => this.update(p)),
      server.onRunning((running) => {
        void vscode.commands.executeCommand('setContext', 'sightline.running', running);
        if (!running) this.update(undefined);
        else server.request<StatusResult>(MethodStatus).then((r) => this.update(r), () => this.render());
      }),
      decorations.onNumbers(() => this.render()),
      vscode.window.onDidChangeActiveTextEditor(() => this.render()),
    );
    this.render();
    this.item.show();
  }

  get recording(): boolean { return this.last?.recording === true; }

  /** text is what the item shows, for tests. */
  get text(): string { return this.item.text; }

  private update(s: StatusResult | undefined): void {
    const before = this.recording;
    this.last = s;
    if (before !== this.recording) void vscode.commands.executeCommand('setContext', 'sightline.recording', this.recording);
    this.render();
    if (before && !this.recording) this.ended.fire();
  }

  private render(): void {
    const active = vscode.window.activeTextEditor?.document;
    const result = active && isSource(active) ? this.decorations.result(active.uri) : undefined;
    const has = result !== undefined && result.capture !== '';
    void vscode.commands.executeCommand('setContext', 'sightline.hasNumbers', has);
    const tip = new vscode.MarkdownString();
    const s = this.last;
    if (!this.server.running) {
      this.item.text = '$(flame) Sightline';
      tip.appendText('The server does not run.');
    } else if (s?.recording) {
      this.item.text = `$(record) ${s.text || `${s.phase}…`}`;
      tip.appendText([s.target, s.phase, 'Click to stop, keep or drop it.'].filter((x) => x).join('\n'));
    } else if (result && result.stale > 0) {
      this.item.text = '$(history) Sightline: stale';
      tip.appendText(result.note);
    } else {
      this.item.text = '$(flame) Sightline';
      tip.appendText(result?.note || 'Nothing was recorded of this file yet.');
    }
    this.item.tooltip = tip;
    this.item.accessibilityInformation = { label: this.item.text.replace(/^\$\([a-z]+\) /, 'Sightline: ') };
  }

  dispose(): void {
    for (const s of this.subscriptions) s.dispose();
    this.ended.dispose();
  }
}
