import * as vscode from 'vscode';
import { isSource, type Server } from './server';

/** TestArguments are those of the server's command that profiles a test. */
export interface TestArguments { uri?: string; dir?: string; run?: string; bench?: string; test?: string; args?: string[]; kinds?: string[] }

/**
 * testAt asks the server which test is at a line, the innermost first. Undefined where none is.
 */
export async function testAt(server: Server, document: vscode.TextDocument, line: number): Promise<TestArguments | undefined> {
  if (!isSource(document)) return undefined;
  const actions = await server.actionsAt(document.uri, line);
  const all = actions.filter((a) => a.command === 'sightline.profileTest').map((a) => (a.arguments[0] ?? {}) as TestArguments);
  return all.find((a) => a.run || a.bench || a.test);
}

/** An Item is what we need to know of an item of the Test Explorer. */
export type Item = Pick<vscode.TestItem, 'id' | 'uri' | 'range'> & { parent?: Item | undefined };

/**
 * testOfID is the test that an id of the Go extension names: FILE?KIND#NAME, where a subtest's name has
 * those of its parents before it. Undefined where it names none, or a method of a suite, which go test
 * cannot be asked to run alone.
 */
export function testOfID(id: string): { run: string } | { bench: string } | undefined {
  const m = /\?(test|benchmark|fuzz|example)#(.+)$/.exec(id);
  if (!m?.[1] || !m[2]) return undefined;
  let name: string;
  try {
    name = decodeURIComponent(m[2]);
  } catch {
    return undefined;
  }
  if (!/^[\p{L}_]/u.test(name)) return undefined;
  const pattern = name.split('/').map((part) => `^${part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`).join('/');
  return m[1] === 'benchmark' ? { bench: pattern } : { run: pattern };
}

/**
 * testOfItem is the test that an item of the Test Explorer stands for. Whose it is does not matter: the
 * server knows the tests of a file, the item only has to say where it is. Subtests that were found when
 * they ran are nowhere; the Go extension's ids name them. Any other item without a test is a package or
 * a module.
 */
export async function testOfItem(server: Server, item: Item): Promise<TestArguments | undefined> {
  const { uri } = item;
  if (!uri) return undefined;
  for (let at: Item | undefined = item; at?.uri?.toString() === uri.toString(); at = at.parent) {
    const named = testOfID(at.id);
    if (named) return { uri: uri.toString(), ...named };
    if (!at.range) continue;
    const found = await testAt(server, await vscode.workspace.openTextDocument(uri), at.range.start.line);
    if (found) return found;
  }
  const stat = await vscode.workspace.fs.stat(uri);
  return stat.type & vscode.FileType.Directory ? { dir: uri.fsPath } : { uri: uri.toString() };
}
