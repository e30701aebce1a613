import * as cp from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as vscode from 'vscode';
import {
  CloseAction, ErrorAction, ExecuteCommandRequest, LanguageClient, ResponseError, State, WorkDoneProgress,
  WorkDoneProgressCancelNotification,
  type ClientCapabilities, type DynamicFeature, type FeatureState, type LanguageClientOptions, type StaticFeature,
} from 'vscode-languageclient/node';
import { findProgram, originText, versionMismatch, type Program } from './binary';
import * as rpc from './protocol';
import { decorationsOn, section, serverSettings, setting } from './settings';
import { fileName } from './targets';

/** languages are those that anything that we read may have frames of. */
const languages = [
  'go', 'c', 'cpp', 'rust', 'objective-c', 'objective-cpp', 'zig', 'd', 'swift', 'javascript', 'javascriptreact',
  'typescript', 'typescriptreact', 'python', 'java', 'kotlin', 'scala', 'csharp', 'fsharp', 'ruby', 'php', 'lua', 'perl', 'julia', 'asm',
];

/** isSource says whether a document has code that the server is told of. */
export function isSource(d: vscode.TextDocument): boolean {
  return d.uri.scheme === 'file' && languages.includes(d.languageId);
}

/** needed are the methods without which this extension is not whole. */
const needed = [
  rpc.MethodLines, rpc.MethodCaptures, rpc.MethodStacks, rpc.MethodFlame, rpc.MethodHottest, rpc.MethodNeighbors,
  rpc.MethodProcesses, rpc.MethodStatus, rpc.MethodDoctor, rpc.MethodChanged,
];

/** Capabilities tells the server what else this client does. */
class Capabilities implements StaticFeature {
  fillClientCapabilities(capabilities: ClientCapabilities): void {
    const others = (capabilities.experimental ?? {}) as object;
    capabilities.experimental = { ...others, sightline: { commandLinks: true, changed: true } };
  }
  initialize(): void {}
  getState(): FeatureState { return { kind: 'static' }; }
  clear(): void {}
}

/**
 * Client leaves the server's commands to us: the palette offers them too, without arguments, and they
 * have to be there before the server runs and while it is started again. It leaves messages to us, too.
 */
class Client extends LanguageClient {
  override registerFeature(feature: StaticFeature | DynamicFeature<unknown>): void {
    const type = (feature as Partial<DynamicFeature<unknown>>).registrationType;
    if (type?.method === ExecuteCommandRequest.method) return;
    super.registerFeature(feature);
  }

  /** error writes what went wrong into the output. What a person is to know of it is told once, in our words. */
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

/** settingsDelay is how long after a change of the settings the server is started anew, in ms. */
const settingsDelay = 200;

const restartLimit = 5, restartWindow = 3 * 60_000;

/** commandLinks are the commands that links in hovers may run. */
const commandLinks = ['sightline.goToFrame', 'sightline.openCapture', 'sightline.profileTest'];

/**
 * A Server is the language server's process and the connection to it, from the extension's start to
 * its end, across restarts.
 */
export class Server implements vscode.Disposable {
  readonly output: vscode.LogOutputChannel;
  readonly log: string;

  private readonly changed = new vscode.EventEmitter<rpc.ChangedParams>();
  /** onChanged tells that numbers changed, or how a recording goes. */
  readonly onChanged = this.changed.event;

  private readonly ran = new vscode.EventEmitter<boolean>();
  /** onRunning tells that the server is ready, or has gone. */
  readonly onRunning = this.ran.event;

  private client: Client | undefined;
  private starting: Promise<void> | undefined;
  private process: cp.ChildProcess | undefined;
  private program: Program | undefined;
  private answered = false; // the process has answered initialize
  private ended: Promise<string> = Promise.resolve(''); // how the process ended, when it has
  private ends: number[] = []; // when it ended by itself
  private told = new Set<string>();

  private readonly settings: vscode.Disposable;
  private due: NodeJS.Timeout | undefined; // restarts for the settings

  constructor(private readonly context: vscode.ExtensionContext) {
    this.output = vscode.window.createOutputChannel('Sightline', { log: true });
    this.log = path.join(context.logUri.fsPath, 'server.log');
    // Who names another program means it now; but the client tells the one that runs of the change first.
    this.settings = vscode.workspace.onDidChangeConfiguration((e) => {
      if (!e.affectsConfiguration(`${section}.server.path`) && !e.affectsConfiguration(`${section}.server.arguments`)) return;
      clearTimeout(this.due);
      this.due = setTimeout(() => void this.restart().catch(() => {}), settingsDelay); // why it fails is told
    });
  }

  get running(): boolean { return this.client?.state === State.Running; }

  /** pid is the server's process, for tests and bug reports. */
  get pid(): number | undefined { return this.process?.pid; }

  /** executable is the path of the server's program; "" before there is one. */
  get executable(): string { return this.program?.path ?? ''; }

  /** start starts the server, unless it runs. Why it cannot is told and thrown. */
  start(): Promise<void> {
    this.starting ??= this.launch().catch((err: unknown) => {
      this.starting = undefined;
      const text = err instanceof Error ? err.message : String(err);
      this.output.error(text);
      void vscode.window.showErrorMessage(text, 'Open Settings', 'Show Log').then((what) => {
        if (what === 'Open Settings') void vscode.commands.executeCommand('workbench.action.openSettings', 'sightline.server');
        if (what === 'Show Log') this.output.show();
      });
      throw err;
    });
    return this.starting;
  }

  private async launch(): Promise<void> {
    const program = this.program = findProgram(setting('server.path', ''), this.context.extensionPath);
    fs.mkdirSync(path.dirname(this.log), { recursive: true });
    const client = new Client('sightline', 'Sightline', () => this.spawn(program), this.options());
    client.registerFeature(new Capabilities());
    client.onNotification(rpc.MethodChanged, (p: rpc.ChangedParams) => this.changed.fire(p));
    client.onDidChangeState(({ newState }) => {
      if (newState === State.Running) {
        this.answered = true;
        this.checkVersion(client, program);
        this.ran.fire(true);
      } else if (newState === State.Stopped) {
        this.ran.fire(false);
      }
    });
    this.client = client;
    this.output.info(`The server is ${program.path} (${program.origin}); its log is ${this.log}`);
    try {
      await client.start();
    } catch (err) {
      if (this.answered || !this.process) throw err;
      const how = await Promise.race([this.ended, new Promise<string>((resolve) => setTimeout(resolve, 1000, ''))]);
      if (how === '') throw err;
      const remedy = { setting: 'Correct the setting sightline.server.path, or empty it.', PATH: 'Replace it, or remove it from PATH.', extension: 'Install the extension again.' }[program.origin];
      throw new Error(`${program.path} ended with ${how} before it answered as a language server does. ${remedy} Its log is ${this.log}`);
    }
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: [...languages.map((language) => ({ scheme: 'file', language })), { scheme: 'file', pattern: `**/${fileName}` }],
      outputChannel: this.output,
      initializationOptions: () => serverSettings(vscode.workspace.getConfiguration().get(section), decorationsOn()),
      markdown: { isTrusted: { enabledCommands: commandLinks }, supportHtml: false },
      connectionOptions: { maxRestartCount: restartLimit },
      errorHandler: {
        // What is written to a server that has just died fails, many times over on a busy machine. Its end
        // is told next, and that is what is acted on: giving up here would leave nobody to start it again.
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => this.closed(),
      },
      initializationFailedHandler: (err) => {
        this.output.error(`The server did not start: ${err instanceof Error ? err.message : String(err)}`);
        return false;
      },
      middleware: {
        workspace: {
          configuration: async (params, token, next) => {
            const answer = await next(params, token);
            if (!Array.isArray(answer)) return answer;
            return answer.map((a: unknown, i: number) => params.items[i]?.section === section ? serverSettings(a, decorationsOn()) : a);
          },
        },
        window: {
          showDocument: async (params, token, next) => {
            if (params.external || !params.uri.startsWith('file:')) return next(params, token);
            const { reveal } = await import('./reveal.js');
            const shown = await reveal({ uri: params.uri, line: params.selection?.start.line ?? 0 }, { focus: params.takeFocus ?? true });
            return { success: shown !== undefined };
          },
        },
      },
    };
  }

  /** spawn starts the process. What it writes to standard error, a crash above all, is logged too. */
  private async spawn(program: Program): Promise<cp.ChildProcess> {
    const args = ['serve', '--log', this.log, ...setting<string[]>('server.arguments', [])];
    this.answered = false;
    this.process = undefined;
    const child = cp.spawn(program.path, args, { stdio: 'pipe' });
    this.ended = new Promise((resolve) => { child.once('exit', (code, signal) => resolve(signal ?? `exit status ${code}`)); });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (err) => reject(new Error(`${program.path} cannot be started: ${err.message}. Correct the setting sightline.server.path, or empty it.`)));
    });
    this.process = child;
    child.stderr.on('data', (b: Buffer) => fs.appendFile(this.log, b, () => {}));
    void this.ended.then((how) => this.output.info(`The server ended: ${how}`));
    return child;
  }

  /** closed answers what to do after the server went away by itself, and tells the person once. */
  private closed(): { action: CloseAction; message?: string; handled: boolean } {
    this.ran.fire(false);
    // One that never answered would not the next time either; whoever started it says why.
    if (!this.answered) {
      this.starting = undefined;
      return { action: CloseAction.DoNotRestart, handled: true };
    }
    const now = Date.now();
    this.ends = [...this.ends.filter((t) => now - t < restartWindow), now];
    const showLog = (what: string | undefined): void => {
      if (what === 'Show Log') void this.showLog();
      if (what === 'Restart') void this.restart();
    };
    if (this.ends.length > restartLimit) {
      const text = `The Sightline server ended unexpectedly ${this.ends.length} times within three minutes and is not started again. Its log is ${this.log}`;
      this.starting = undefined;
      void vscode.window.showErrorMessage(text, 'Show Log', 'Restart').then(showLog);
      return { action: CloseAction.DoNotRestart, message: text, handled: true };
    }
    const text = `The Sightline server ended unexpectedly and was started again. Its log is ${this.log}`;
    if (this.ends.length === 1) void vscode.window.showWarningMessage(text, 'Show Log').then(showLog);
    return { action: CloseAction.Restart, message: text, handled: true };
  }

  private checkVersion(client: Client, program: Program): void {
    const result = client.initializeResult;
    const own = (result?.capabilities.experimental as { sightline?: { methods?: string[] } } | undefined)?.sightline;
    const extension = (this.context.extension.packageJSON as { version: string }).version;
    const text = versionMismatch(program, result?.serverInfo?.version ?? '', extension, own?.methods ?? [], needed);
    if (text === '') return;
    this.output.warn(text);
    if (this.once(text)) {
      void vscode.window.showWarningMessage(text, 'Open Settings').then((what) => {
        if (what) void vscode.commands.executeCommand('workbench.action.openSettings', 'sightline.server.path');
      });
    }
  }

  /** once says whether a text has not been told in this window yet. */
  once(text: string): boolean {
    if (this.told.has(text)) return false;
    this.told.add(text);
    return true;
  }

  /** describe says which server this is. */
  describe(): string {
    return this.program ? `${this.client?.initializeResult?.serverInfo?.version ?? ''} (${originText(this.program)})`.trim() : '';
  }

  /** request calls one of our own methods. The server is started where it does not run. */
  async request<R>(method: string, params?: object, token?: vscode.CancellationToken): Promise<R> {
    await this.start();
    const client = this.client;
    if (!client) throw new Error('The Sightline server does not run.');
    // What is passed is sent, be it undefined: so nothing is passed that there is not.
    if (params === undefined) return token ? client.sendRequest<R>(method, token) : client.sendRequest<R>(method);
    return token ? client.sendRequest<R>(method, params, token) : client.sendRequest<R>(method, params);
  }

  /** execute runs a command of the server and answers its result. */
  async execute<R>(command: string, args?: object, token?: vscode.CancellationToken): Promise<R> {
    return this.request<R>(ExecuteCommandRequest.method, { command, arguments: args === undefined ? [] : [args] }, token);
  }

  /**
   * record runs a command that records, to its end, with its progress as a notification. Cancelling
   * that stops the recording and keeps it.
   */
  async record<R>(command: string, args: object): Promise<R> {
    await this.start();
    const client = this.client;
    if (!client) throw new Error('The Sightline server does not run.');
    const token = `sightline-${process.pid}-${Date.now().toString(36)}`;
    let begun: (title: string, message: string | undefined) => void = () => {};
    let report: (message: string) => void = () => {};
    let ended: () => void = () => {};
    const over = new Promise<void>((resolve) => { ended = resolve; });
    begun = (title, message) => {
      void vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title, cancellable: true }, (progress, cancel) => {
        report = (text) => progress.report({ message: text });
        if (message) report(message);
        cancel.onCancellationRequested(() => void client.sendNotification(WorkDoneProgressCancelNotification.type, { token }));
        return over;
      });
    };
    const follow = client.onProgress(WorkDoneProgress.type, token, (value) => {
      if (value.kind === 'begin') begun(value.title, value.message);
      else if (value.kind === 'report' && value.message) report(value.message);
      else if (value.kind === 'end') ended();
    });
    try {
      return await client.sendRequest<R>(ExecuteCommandRequest.method, { command, arguments: [args], workDoneToken: token });
    } finally {
      ended();
      follow.dispose();
    }
  }

  /** actionsAt asks for the code actions of a place as a person would. */
  async actionsAt(uri: vscode.Uri, line: number): Promise<{ title: string; command: string; arguments: unknown[] }[]> {
    interface Command { title: string; command: string; arguments?: unknown[] }
    const at = { line, character: 0 };
    const answer = await this.request<({ title: string; command: string | Command })[] | null>('textDocument/codeAction', {
      textDocument: { uri: uri.toString() }, range: { start: at, end: at }, context: { diagnostics: [], triggerKind: 1 },
    });
    return (answer ?? []).map((a) => {
      const c = typeof a.command === 'string' ? a as unknown as Command : a.command;
      return { title: a.title, command: c.command, arguments: c.arguments ?? [] };
    });
  }

  private restarting: Promise<void> = Promise.resolve();

  /** restart ends the server and starts it as the settings are now, one time after the other. */
  restart(): Promise<void> {
    return this.restarting = this.restarting.catch(() => {}).then(() => this.again());
  }

  private async again(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    this.starting = undefined;
    this.ends = [];
    this.told.clear();
    await client?.dispose(2000).catch(() => {});
    await this.start();
  }

  async showLog(): Promise<void> {
    try {
      await vscode.window.showTextDocument(vscode.Uri.file(this.log), { preview: true });
    } catch {
      this.output.show();
    }
  }

  async stop(): Promise<void> {
    await this.client?.stop(5000).catch(() => {});
  }

  dispose(): void {
    this.settings.dispose();
    clearTimeout(this.due);
    this.output.dispose();
    this.changed.dispose();
    this.ran.dispose();
  }
}

/** messageOf is what an error says to a person: the server's own sentence where it is one. */
export function messageOf(err: unknown): string {
  if (err instanceof ResponseError || err instanceof Error) return err.message;
  return String(err);
}

/** isCancelled says whether an error only tells that somebody cancelled. */
export function isCancelled(err: unknown): boolean {
  return err instanceof vscode.CancellationError || (err instanceof ResponseError && (err.code === -32800 || err.code === -32801));
}

