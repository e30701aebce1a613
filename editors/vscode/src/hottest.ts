import * as vscode from 'vscode';
import { stepOf } from './drawn';
import * as rpc from './protocol';
import { reveal } from './reveal';
import type { Server } from './server';

/** A Choice is a row of a list that leads to source. */
export interface Choice extends vscode.QuickPickItem {
  location?: rpc.Location;
}

/**
 * choosePlace shows a list and previews the place of each row that the person moves to. Leaving the
 * list without choosing goes back to where it was opened.
 */
export async function choosePlace(title: string, placeholder: string, items: Choice[]): Promise<Choice | undefined> {
  const before = vscode.window.activeTextEditor;
  const selection = before?.selection, ranges = before?.visibleRanges;
  const mark = vscode.window.createTextEditorDecorationType({ isWholeLine: true, backgroundColor: new vscode.ThemeColor('editor.rangeHighlightBackground') });
  const pick = vscode.window.createQuickPick<Choice>();
  pick.title = title;
  pick.placeholder = placeholder;
  pick.matchOnDescription = pick.matchOnDetail = true;
  pick.items = items;
  pick.keepScrollPosition = true;
  let previewed: vscode.TextEditor | undefined, turn = 0;
  const chosen = await new Promise<Choice | undefined>((resolve) => {
    let done: Choice | undefined;
    pick.onDidChangeActive(async ([item]) => {
      const mine = ++turn;
      if (!item?.location) return;
      const editor = await reveal(item.location, { focus: false, preview: true });
      if (mine !== turn) return;
      previewed?.setDecorations(mark, []);
      previewed = editor;
      editor?.setDecorations(mark, [new vscode.Range(item.location.line, 0, item.location.line, 0)]);
    });
    pick.onDidAccept(() => { done = pick.activeItems[0]; pick.hide(); });
    pick.onDidHide(() => { turn++; resolve(done); });
    pick.show();
  });
  mark.dispose();
  pick.dispose();
  if (chosen?.location) {
    await reveal(chosen.location);
  } else if (!chosen && before && previewed) {
    const editor = await vscode.window.showTextDocument(before.document, { viewColumn: before.viewColumn, selection });
    if (ranges?.[0]) editor.revealRange(ranges[0], vscode.TextEditorRevealType.AtTop);
  }
  return chosen;
}

/** showHottest lists the costliest lines or functions of what is shown. */
export async function showHottest(server: Server, what: 'lines' | 'functions', all = false): Promise<Choice | undefined> {
  const spots = await server.request<rpc.HotSpot[]>(rpc.MethodHottest, { what, ...(all ? { all } : {}) } satisfies rpc.HottestParams);
  if (spots.length === 0) {
    void vscode.window.showInformationMessage(`There are no hot ${what} in this workspace yet. Profile a test first.`);
    return undefined;
  }
  const icon = (s: rpc.HotSpot): vscode.ThemeIcon => new vscode.ThemeIcon('circle-filled', new vscode.ThemeColor(`sightline.heat${stepOf(s.heat) + 1}`));
  return choosePlace(`Hottest ${what}`, 'Type to filter; moving through the list shows each place', spots.map((s) => ({
    label: s.label, description: s.text, detail: s.detail, iconPath: icon(s), ...(s.location ? { location: s.location } : {}),
  })));
}

/** showNeighbors lists who calls the function at the cursor, or whom it calls. */
export async function showNeighbors(server: Server, side: 'callers' | 'callees', uri: vscode.Uri, line: number): Promise<Choice | undefined> {
  const r = await server.request<rpc.NeighborsResult>(rpc.MethodNeighbors, { textDocument: { uri: uri.toString() }, line } satisfies rpc.NeighborsParams);
  if (r.name === '') {
    void vscode.window.showInformationMessage('No function with a cost is at the cursor.');
    return undefined;
  }
  const rows = r[side];
  if (rows.length === 0) {
    void vscode.window.showInformationMessage(side === 'callers' ? `Nobody calls ${r.label} in this capture.` : `${r.label} calls nobody in this capture.`);
    return undefined;
  }
  return choosePlace(`${side === 'callers' ? 'Callers' : 'Callees'} of ${r.label}`, r.text, rows.map((row) => ({
    label: row.label, description: row.text, detail: row.location ? placeOf(row.location) : row.name,
    iconPath: new vscode.ThemeIcon(side === 'callers' ? 'call-incoming' : 'call-outgoing'),
    ...(row.location ? { location: row.location } : {}),
  })));
}

function placeOf(at: rpc.Location): string {
  return `${vscode.workspace.asRelativePath(vscode.Uri.parse(at.uri))}:${at.line + 1}`;
}
