// What the suites are written with.
import assert from 'node:assert/strict';
import path from 'node:path';
import * as vscode from 'vscode';
import type { Parts } from '../../src/commands';

export const id = 'sightline-dev.sightline';

/** until waits for a condition; what it waits for is in the error. */
export async function until<T>(what: string, condition: () => T | Promise<T>, timeout = 120_000): Promise<NonNullable<T>> {
  const end = Date.now() + timeout;
  for (;;) {
    const v = await condition();
    if (v) return v as NonNullable<T>;
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

export function workspaceFolder(): string { return vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? ''; }

/** activated are the parts of the extension, whose server runs. */
export async function activated(): Promise<Parts> {
  const extension = vscode.extensions.getExtension<Parts>(id);
  assert.ok(extension, 'the extension is there');
  const parts = await extension.activate();
  await until('the server', () => parts.server.running);
  return parts;
}

export async function open(name: string): Promise<vscode.TextEditor> {
  return vscode.window.showTextDocument(vscode.Uri.file(path.join(workspaceFolder(), name)), { preview: false, viewColumn: vscode.ViewColumn.One });
}

export function lineOf(d: vscode.TextDocument, text: string): number {
  for (let i = 0; i < d.lineCount; i++) if (d.lineAt(i).text.includes(text)) return i;
  throw new Error(`${d.fileName} has no ${text}`);
}

/** heard replaces a method that shows messages, and answers what they said. */
export function heard(method: 'showWarningMessage' | 'showErrorMessage' | 'showInformationMessage'): { texts: string[]; restore(): void } {
  const texts: string[] = [], window = vscode.window as unknown as Record<string, unknown>, before = window[method];
  window[method] = async (text: string) => { texts.push(text); return undefined; };
  return { texts, restore: () => { window[method] = before; } };
}
