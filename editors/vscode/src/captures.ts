import * as vscode from 'vscode';
import { MethodCaptures, type CaptureInfo } from './protocol';
import { messageOf, type Server } from './server';

/** titleOf is what a capture is called: a person's words, else what was recorded. */
export function titleOf(c: CaptureInfo): string { return c.note || c.target; }

/** Captures is the view of what is stored. */
export class Captures implements vscode.TreeDataProvider<CaptureInfo>, vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.changed.event;
  private readonly view: vscode.TreeView<CaptureInfo>;
  private readonly subscriptions: vscode.Disposable[] = [];
  private all: CaptureInfo[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly clock: NodeJS.Timeout;

  constructor(private readonly server: Server) {
    this.view = vscode.window.createTreeView('sightline.captures', { treeDataProvider: this, showCollapseAll: false });
    this.subscriptions.push(
      this.view,
      server.onChanged((p) => { if (!p.recording) this.refreshSoon(); }),
      server.onRunning(() => void this.refresh()),
      this.view.onDidChangeVisibility((e) => { if (e.visible) this.refreshSoon(); }),
    );
    this.clock = setInterval(() => { if (this.view.visible && vscode.window.state.focused) this.refreshSoon(); }, 60_000); // they age
  }

  private refreshSoon(): void {
    this.timer ??= setTimeout(() => { this.timer = undefined; void this.refresh(); }, 100);
  }

  /** refresh asks for the captures again and answers them. */
  async refresh(): Promise<CaptureInfo[]> {
    if (this.server.running) {
      try {
        this.all = await this.server.request<CaptureInfo[]>(MethodCaptures);
        this.view.message = undefined;
      } catch (err) {
        this.view.message = messageOf(err);
      }
    }
    void vscode.commands.executeCommand('setContext', 'sightline.hasCaptures', this.all.length > 0);
    this.changed.fire();
    return this.all;
  }

  getChildren(c?: CaptureInfo): CaptureInfo[] { return c ? [] : this.all; }

  getTreeItem(c: CaptureInfo): vscode.TreeItem {
    // A test is recorded again and again: which time it was tells its captures apart.
    const item = new vscode.TreeItem(c.note || c.text);
    item.id = c.id;
    item.description = c.note ? c.text : c.target;
    const tip = new vscode.MarkdownString();
    tip.appendText([c.note, c.target, c.text, c.interrupted ? 'The recording was interrupted.' : '', c.id].filter((x) => x).join('\n'));
    item.tooltip = tip;
    item.contextValue = `capture ${c.pinned ? 'pinned' : 'unpinned'}`;
    item.iconPath = new vscode.ThemeIcon(
      c.baseline ? 'diff' : c.shown ? 'eye' : c.pinned ? 'pinned' : 'graph-line',
      c.shown || c.baseline ? new vscode.ThemeColor('sightline.heat3') : undefined);
    item.command = { command: 'sightline.openCapture', title: 'Open', arguments: [{ capture: c.id }] };
    item.accessibilityInformation = { label: `${titleOf(c)}, ${c.text}${c.pinned ? ', pinned' : ''}` };
    return item;
  }

  /** pick lets a person choose a capture. */
  async pick(placeHolder: string, without = ''): Promise<CaptureInfo | undefined> {
    const all = (await this.refresh()).filter((c) => c.id !== without);
    if (all.length === 0) {
      void vscode.window.showInformationMessage('There is no capture to choose. Profile a test first.');
      return undefined;
    }
    const picked = await vscode.window.showQuickPick(
      all.map((c) => ({
        label: `${c.pinned ? '$(pinned) ' : ''}${titleOf(c)}`, description: c.text,
        detail: c.note ? `${c.target} · ${c.id}` : c.id, capture: c,
      })),
      { placeHolder, matchOnDescription: true, matchOnDetail: true });
    return picked?.capture;
  }

  dispose(): void {
    clearTimeout(this.timer);
    clearInterval(this.clock);
    for (const s of this.subscriptions) s.dispose();
    this.changed.dispose();
  }
}
