import * as vscode from 'vscode';
import type { Location } from './protocol';

export interface RevealOptions {
  focus?: boolean; // move the focus there; default true
  preview?: boolean; // reuse the tab of the last preview
}

/**
 * reveal shows a place in its file: in the editor that shows the file already, else in the column of
 * the last text editor, never on top of a graph that the person looks at. A line past the end is the
 * last.
 */
export async function reveal(at: Location, options: RevealOptions = {}): Promise<vscode.TextEditor | undefined> {
  try {
    const uri = vscode.Uri.parse(at.uri, true);
    const document = await vscode.workspace.openTextDocument(uri);
    const line = Math.max(0, Math.min(at.line, document.lineCount - 1));
    const column = document.lineAt(line).firstNonWhitespaceCharacterIndex;
    const place = new vscode.Range(line, column, line, column);
    const editor = await vscode.window.showTextDocument(document, {
      viewColumn: columnFor(uri), preserveFocus: options.focus === false, preview: options.preview ?? false, selection: place,
    });
    editor.revealRange(place, vscode.TextEditorRevealType.InCenterIfOutsideViewport);
    return editor;
  } catch (err) {
    void vscode.window.showErrorMessage(`${at.uri} is not shown: ${err instanceof Error ? err.message : String(err)}`);
    return undefined;
  }
}

function columnFor(uri: vscode.Uri): vscode.ViewColumn {
  const editors = vscode.window.visibleTextEditors.filter((e) => e.viewColumn !== undefined);
  const there = editors.find((e) => e.document.uri.toString() === uri.toString());
  if (there?.viewColumn) return there.viewColumn;
  if (vscode.window.tabGroups.activeTabGroup.activeTab?.input instanceof vscode.TabInputText) return vscode.ViewColumn.Active;
  const beside = editors[0]?.viewColumn;
  if (beside) return beside;
  // A graph fills the only group: the source goes beside it.
  const groups = vscode.window.tabGroups.all;
  const other = groups.find((g) => !g.isActive && g.viewColumn);
  const activeIsGraph = isGraph(vscode.window.tabGroups.activeTabGroup.activeTab?.input);
  return other?.viewColumn ?? (activeIsGraph ? vscode.ViewColumn.Beside : vscode.ViewColumn.Active);
}

function isGraph(input: unknown): boolean {
  return input instanceof vscode.TabInputWebview || input instanceof vscode.TabInputCustom;
}
