import * as vscode from 'vscode';
import { Captures } from './captures';
import { registerCommands, type Parts } from './commands';
import { Decorations } from './decorations';
import { FlamePanel } from './flame/view';
import { HotPaths } from './hotpaths';
import { ProcessPages } from './process/page';
import { Server } from './server';
import { Status } from './status';
import { Profiles } from './viewer';

let server: Server | undefined;

/** activate starts the extension. It answers its parts, for tests. */
export async function activate(context: vscode.ExtensionContext): Promise<Parts> {
  server = new Server(context);
  const decorations = new Decorations(server);
  const status = new Status(server, decorations);
  const captures = new Captures(server);
  const hotPaths = new HotPaths(server, status.onEnded);
  const flame = new FlamePanel(server, context.extensionUri, status.onEnded);
  const profiles = new Profiles(server, context);
  const processes = new ProcessPages(server, context.extensionUri);
  const parts: Parts = { context, server, decorations, status, captures, hotPaths, flame, profiles, processes };
  context.subscriptions.push(server, decorations, status, captures, hotPaths, flame, processes,
    vscode.window.registerCustomEditorProvider(Profiles.viewType, profiles, {
      supportsMultipleEditorsPerDocument: true, webviewOptions: { retainContextWhenHidden: true },
    }));
  registerCommands(parts);
  await server.start().catch(() => {}); // told; commands try again
  return parts;
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}
