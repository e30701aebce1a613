import * as vscode from 'vscode';
import { FlameView } from './flame/view';
import { MethodCaptures, type CaptureInfo } from './protocol';
import { messageOf, type Server } from './server';

interface Imported { capture: string; modified: number; size: number }

/** Profiles opens files that other profilers wrote: as a flame graph, and as numbers in the sources. */
export class Profiles implements vscode.CustomReadonlyEditorProvider {
  static readonly viewType = 'sightline.profile';

  constructor(private readonly server: Server, private readonly context: vscode.ExtensionContext) {}

  openCustomDocument(uri: vscode.Uri): vscode.CustomDocument {
    return { uri, dispose: () => {} };
  }

  async resolveCustomEditor(document: vscode.CustomDocument, panel: vscode.WebviewPanel): Promise<void> {
    new FlameView(this.server, this.context.extensionUri, panel, { source: { file: document.uri.fsPath }, filter: {} });
    await this.annotate(document.uri);
  }

  /**
   * annotate imports a file as a capture, so that the sources of the workspace show its numbers. A file
   * that was imported before, and has not changed since, is only opened.
   */
  async annotate(uri: vscode.Uri): Promise<string> {
    const key = `sightline.imported:${uri.fsPath}`;
    try {
      const stat = await vscode.workspace.fs.stat(uri);
      const before = this.context.workspaceState.get<Imported>(key);
      let capture = '';
      if (before && before.modified === stat.mtime && before.size === stat.size) {
        const all = await this.server.request<CaptureInfo[]>(MethodCaptures);
        capture = all.find((c) => c.id === before.capture)?.id ?? '';
      }
      if (capture !== '') {
        await this.server.execute('sightline.openCapture', { capture });
      } else {
        capture = (await this.server.execute<{ capture: string }>('sightline.importFile', { path: uri.fsPath })).capture;
        await this.context.workspaceState.update(key, { capture, modified: stat.mtime, size: stat.size } satisfies Imported);
      }
      return capture;
    } catch (err) {
      void vscode.window.showWarningMessage(`The sources do not show the numbers of this file: ${messageOf(err)}`);
      return '';
    }
  }
}
