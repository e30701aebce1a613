import * as vscode from 'vscode';
import { stepOf } from './drawn';
import * as rpc from './protocol';
import { messageOf, type Server } from './server';

/** pageSize is how many rows are asked for at a time. */
const pageSize = 100;

/** A Node is a row of the view, or one that stands for the rows after it. */
type Node = { row: rpc.StackRow; parent?: Node; children?: Node[]; more?: number } | { next: Page; parent?: Node };
interface Page { node: string; offset: number; left: number }

/** Look is what the view shows. */
export interface Look {
  source: rpc.SourceRef;
  before?: rpc.SourceRef; // the difference to this
  view: string; // rpc.View…
  focus?: string;
  filter: rpc.StackFilter;
}

/** HotPaths is the view of calls: a tree whose rows are asked for when they are opened. */
export class HotPaths implements vscode.TreeDataProvider<Node>, vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<Node | undefined>();
  readonly onDidChangeTreeData = this.changed.event;
  private readonly view: vscode.TreeView<Node>;
  private readonly subscriptions: vscode.Disposable[] = [];
  private look: Look = { source: {}, view: rpc.ViewCallTree, filter: {} };
  private pinned = ''; // the capture that the rows of now are of, so that a tree never mixes two
  private roots: Promise<Node[]> | undefined;
  private preset: rpc.Preset | undefined;
  private presetsAsked = false;
  private readonly clock: NodeJS.Timeout;

  constructor(private readonly server: Server, onEnded: vscode.Event<void>) {
    this.view = vscode.window.createTreeView('sightline.hotPaths', { treeDataProvider: this, showCollapseAll: true });
    let shown = '';
    this.clock = setInterval(() => void this.age(), 60_000);
    this.subscriptions.push(
      this.view,
      onEnded(() => { if (!this.look.focus) this.show({ source: {} }); }),
      server.onChanged((p) => {
        if (p.recording || p.capture === shown) return;
        shown = p.capture;
        this.refresh();
      }),
      server.onRunning((running) => { if (running) { this.presetsAsked = false; this.refresh(); } }),
    );
  }

  get current(): Look { return this.look; }

  /** show changes what is shown; what is not given stays. */
  show(look: Partial<Look>): void {
    this.look = { ...this.look, ...look };
    void vscode.commands.executeCommand('setContext', 'sightline.comparing', this.look.before !== undefined);
    this.refresh();
  }

  refresh(): void {
    this.pinned = '';
    this.roots = undefined;
    this.changed.fire(undefined);
  }

  private async ask(node: string, offset: number): Promise<rpc.StacksResult> {
    const { source, before, view, focus, filter } = this.look;
    const params: rpc.StacksParams = {
      ...source, ...(this.pinned ? { capture: this.pinned } : {}),
      filter, view, ...(focus ? { focus } : {}), ...(node ? { node } : {}), offset, limit: pageSize,
    };
    if (before) return this.server.request<rpc.StacksResult>(rpc.MethodDiff, { ...params, before } satisfies rpc.DiffParams);
    return this.server.request<rpc.StacksResult>(rpc.MethodStacks, params);
  }

  private nodes(r: rpc.StacksResult, node: string, offset: number, parent: Node | undefined): Node[] {
    const nodes: Node[] = r.rows.map((row) => ({ row, parent }));
    if (r.more > 0) nodes.push({ next: { node, offset: offset + r.rows.length, left: r.more }, parent });
    return nodes;
  }

  private async top(): Promise<Node[]> {
    if (!this.server.running) return [];
    await this.defaults();
    try {
      let r = await this.ask('', 0);
      let from = '';
      this.pinned = r.capture;
      const [only] = r.rows;
      if (only && r.rows.length === 1 && only.node && only.children && !this.look.focus) { // the root, which says nothing
        from = only.node;
        r = { ...await this.ask(from, 0), title: r.title, text: r.text, filter: r.filter };
      }
      this.view.description = r.text;
      this.say(r);
      return this.nodes(r, from, 0, undefined);
    } catch (err) {
      this.view.description = undefined;
      this.view.message = messageOf(err);
      return [];
    }
  }

  private say(r: rpc.StacksResult): void {
    const about = [r.title, r.filter, this.look.view === rpc.ViewCallTree ? '' : r.about].filter((x) => x);
    this.view.message = r.rows.length > 0 ? about.join('\n') : undefined;
  }

  /** age says anew how old what is shown is. */
  private async age(): Promise<void> {
    if (!this.view.visible || !vscode.window.state.focused || !this.pinned || !this.server.running) return;
    const r = await this.ask('', 0).catch(() => undefined);
    if (r) this.say(r);
  }

  /** defaults takes the preset that a viewer begins with, once. */
  private async defaults(): Promise<void> {
    if (this.presetsAsked) return;
    this.presetsAsked = true;
    try {
      this.preset = (await this.presets()).find((p) => p.default);
      if (this.preset && Object.keys(this.look.filter).length === 0) this.look.filter = { preset: this.preset.name };
    } catch (err) {
      this.server.output.info(`${rpc.MethodPresets}: ${messageOf(err)}`);
    }
  }

  private presets(): Promise<rpc.Preset[]> {
    const root = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    return this.server.request<rpc.Preset[]>(rpc.MethodPresets, { ...(root ? { root } : {}) } satisfies rpc.PresetsParams);
  }

  /** choosePreset lets a person choose how calls are grouped. */
  async choosePreset(): Promise<void> {
    const all = await this.presets();
    const chosen = await vscode.window.showQuickPick(
      [...all.map((p) => ({ label: p.name, description: p.default ? 'default' : '', detail: p.detail, filter: { preset: p.name } as rpc.StackFilter }))],
      { placeHolder: 'Group the calls how?', matchOnDetail: true });
    if (chosen) this.show({ filter: chosen.filter });
  }

  /** chooseView lets a person choose between the tree and the list. */
  async chooseView(): Promise<void> {
    const chosen = await vscode.window.showQuickPick([
      { label: 'Call tree', detail: 'From the outermost caller inwards', view: rpc.ViewCallTree },
      { label: 'Functions', detail: 'All of them, the costliest first', view: rpc.ViewByName },
    ], { placeHolder: 'Show the calls as' });
    if (chosen) this.show({ view: chosen.view, focus: undefined });
  }

  async getChildren(node?: Node): Promise<Node[]> {
    if (!node) return this.roots ??= this.top();
    if (!('row' in node) || !node.row.children) return [];
    if (node.children) return node.children;
    try {
      const r = await this.ask(node.row.node, 0);
      node.children = this.nodes(r, node.row.node, 0, node);
      return node.children;
    } catch (err) {
      void vscode.window.showErrorMessage(messageOf(err));
      return [];
    }
  }

  getParent(node: Node): Node | undefined { return node.parent; }

  getTreeItem(node: Node): vscode.TreeItem {
    if (!('row' in node)) {
      const item = new vscode.TreeItem('More…');
      item.description = String(node.next.left);
      item.command = { command: 'sightline.hotPaths.more', title: 'Show more', arguments: [node] };
      return item;
    }
    const r = node.row;
    const item = new vscode.TreeItem(r.label, !r.children ? vscode.TreeItemCollapsibleState.None
      : !node.parent && !this.look.before ? vscode.TreeItemCollapsibleState.Expanded : vscode.TreeItemCollapsibleState.Collapsed);
    item.description = r.text;
    const tip = new vscode.MarkdownString();
    tip.appendText(r.tooltip || r.name);
    item.tooltip = tip;
    item.contextValue = 'row';
    item.iconPath = new vscode.ThemeIcon('circle-filled', new vscode.ThemeColor(!this.look.before ? `sightline.heat${stepOf(Math.abs(r.share)) + 1}`
      : r.total > 0 ? 'charts.red' : r.total < 0 ? 'charts.green' : 'sightline.heat1')); // as the flame graph has them
    item.accessibilityInformation = { label: `${r.label}, ${r.text}` };
    if (r.location) item.command = { command: 'sightline.reveal', title: 'Go to Source', arguments: [r.location, { focus: false, preview: true }] };
    return item;
  }

  /** more replaces the last row by those that it stands for. */
  async more(node: Node): Promise<void> {
    if ('row' in node) return;
    const r = await this.ask(node.next.node, node.next.offset);
    const fresh = this.nodes(r, node.next.node, node.next.offset, node.parent);
    const siblings = node.parent && 'row' in node.parent ? node.parent.children : await this.roots;
    if (!siblings) return;
    siblings.splice(siblings.indexOf(node), 1, ...fresh);
    this.changed.fire(node.parent);
  }

  /** expand opens the path of the heaviest calls, down to where no callee has half of its caller's cost. */
  async expand(): Promise<void> {
    let nodes = await this.getChildren();
    let last: Node | undefined;
    for (let depth = 0; depth < 60; depth++) {
      const best = nodes.filter((n) => 'row' in n).sort((a, b) => Math.abs(b.row.share) - Math.abs(a.row.share))[0];
      if (!best || (last && 'row' in last && Math.abs(best.row.share) < 0.5 * Math.abs(last.row.share))) break;
      last = best;
      if (!best.row.children) break;
      nodes = await this.getChildren(best);
    }
    if (last) await this.view.reveal(last, { select: true, focus: false, expand: false });
  }

  dispose(): void {
    clearInterval(this.clock);
    for (const s of this.subscriptions) s.dispose();
    this.changed.dispose();
  }
}

export type { Node as HotPathNode };
