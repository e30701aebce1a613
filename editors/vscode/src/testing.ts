import * as vscode from 'vscode';
import { isSource, type Server } from './server';

/** TestArguments are those of the server's command that profiles a test. */
export interface TestArguments { uri?: string; dir?: string; run?: string; bench?: string; test?: string; args?: string[] }

/**
 * testAt asks the server which test is at a line, the innermost first. Undefined where none is.
 */
export async function testAt(server: Server, document: vscode.TextDocument, line: number): Promise<TestArguments | undefined> {
  if (!isSource(document)) return undefined;
  const actions = await server.actionsAt(document.uri, line);
  const all = actions.filter((a) => a.command === 'sightline.profileTest').map((a) => (a.arguments[0] ?? {}) as TestArguments);
  return all.find((a) => a.run || a.bench || a.test);
}

/**
 * testOfItem is the test that an item of the Test Explorer stands for, whosever it is: the server knows
 * the tests of a file, the item only has to say where it is. An item without a place in a file is a
 * package or a module.
 */
export async function testOfItem(server: Server, item: Pick<vscode.TestItem, 'uri' | 'range' | 'label'>): Promise<TestArguments | undefined> {
  if (!item.uri) return undefined;
  if (item.range) {
    const document = await vscode.workspace.openTextDocument(item.uri);
    const found = await testAt(server, document, item.range.start.line);
    if (found) return found;
  }
  const stat = await vscode.workspace.fs.stat(item.uri);
  return stat.type & vscode.FileType.Directory ? { dir: item.uri.fsPath } : { uri: item.uri.toString() };
}
