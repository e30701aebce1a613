import * as vscode from 'vscode';
import { breaksIn, marksOf, moved, shows, steps, type Edit, type Mark } from './drawn';
import { MethodLines, type LinesParams, type LinesResult } from './protocol';
import { isCancelled, isSource, messageOf, type Server } from './server';
import { decorationsOn, section, setting } from './settings';

/** editDelay is how long after an edit the server is asked: it has to take the edit in anyway. */
const editDelay = 40;

/**
 * goneDelay is how long numbers stay without a server, in ms. One that crashed is back before; without one
 * nobody tells which lines an edit has made wrong.
 */
const goneDelay = 5000;

/** A Sheet is what we know of one document's costs. */
interface Sheet {
  result?: LinesResult; // the last answer
  marks: Map<number, Mark>; // as drawn, moved by edits since
  sure: boolean; // the editor shows marks just so
  asked: number; // the request under way; 0: none
  again: boolean; // ask again when it is answered
  timer?: NodeJS.Timeout;
}

/**
 * Decorations draws the costs of lines at their ends: a layer of its own, beside what inlay hints show.
 * It also knows for whom there are numbers, which the status bar tells.
 */
export class Decorations implements vscode.Disposable {
  private readonly sheets = new Map<string, Sheet>(); // by document URI
  private readonly shown = new WeakMap<vscode.TextEditor, Map<number, Mark>>(); // what each editor was given
  private gone: NodeJS.Timeout | undefined; // takes the numbers away
  private turns = 0; // requests so far
  private types: vscode.TextEditorDecorationType[] = [];
  private readonly subscriptions: vscode.Disposable[] = [];
  private readonly numbers = new vscode.EventEmitter<vscode.Uri>();
  /** onNumbers tells that the numbers of a document are known anew. */
  readonly onNumbers = this.numbers.event;
  /** spent is how long handling the last edit took here, in ms, for benchmarks. */
  readonly spent: { edit: number; answer: number } = { edit: 0, answer: 0 };

  constructor(private readonly server: Server) {
    this.makeTypes();
    this.subscriptions.push(
      server.onChanged(() => this.askAll()),
      server.onRunning((running) => {
        clearTimeout(this.gone);
        for (const sheet of this.sheets.values()) sheet.asked = 0; // a server that was killed never answers
        if (running) this.askAll();
        else this.gone = setTimeout(() => this.forgetAll(), goneDelay);
      }),
      vscode.window.onDidChangeVisibleTextEditors((editors) => {
        for (const e of editors) {
          const sheet = this.sheets.get(e.document.uri.toString());
          if (sheet?.result) this.draw(e, sheet);
          else this.ask(e.document);
        }
      }),
      vscode.workspace.onDidChangeTextDocument((e) => this.edited(e)),
      vscode.workspace.onDidCloseTextDocument((d) => this.forget(d)),
      vscode.workspace.onDidSaveTextDocument((d) => { if (this.sheets.has(d.uri.toString())) this.ask(d); }),
      vscode.workspace.onDidChangeConfiguration((e) => {
        if (!e.affectsConfiguration(section)) return;
        if (e.affectsConfiguration(`${section}.decorations`)) this.makeTypes();
        setTimeout(() => this.askAll(), 100); // once the server has taken its settings in
      }),
    );
    this.askAll();
  }

  /** result is the last answer about a document. */
  result(uri: vscode.Uri): LinesResult | undefined { return this.sheets.get(uri.toString())?.result; }

  /** drawn is what is drawn in a document, by line: for tests. */
  drawn(uri: vscode.Uri): Map<number, Mark> | undefined { return this.sheets.get(uri.toString())?.marks; }

  /** makeTypes makes the decoration types, and with them takes away all that was drawn with others. */
  private makeTypes(): void {
    for (const t of this.types) t.dispose();
    this.types = [];
    if (decorationsOn()) {
      const ruler = setting('decorations.overviewRuler', true);
      for (let i = 0; i < steps; i++) {
        const color = new vscode.ThemeColor(`sightline.heat${i + 1}`);
        this.types.push(vscode.window.createTextEditorDecorationType({
          isWholeLine: true, // so that the text stands at the line's end whatever is typed there
          rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
          after: { color, margin: '0 0 0 3ch', fontStyle: 'normal', fontWeight: 'normal' },
          ...(ruler && i > 0 ? { overviewRulerColor: color, overviewRulerLane: vscode.OverviewRulerLane.Right } : {}),
        }));
      }
    }
    for (const e of vscode.window.visibleTextEditors) {
      this.shown.delete(e);
      const sheet = this.sheets.get(e.document.uri.toString());
      if (sheet) this.draw(e, sheet);
    }
  }

  private askAll(): void {
    const visible = new Set(vscode.window.visibleTextEditors.map((e) => e.document));
    for (const [uri, sheet] of this.sheets) {
      if (![...visible].some((d) => d.uri.toString() === uri)) sheet.result = undefined; // asked for when it is visible again
    }
    for (const d of visible) this.ask(d);
  }

  private sheetOf(d: vscode.TextDocument): Sheet {
    const key = d.uri.toString();
    let sheet = this.sheets.get(key);
    if (!sheet) {
      sheet = { marks: new Map(), sure: true, asked: 0, again: false };
      this.sheets.set(key, sheet);
    }
    return sheet;
  }

  /** ask asks for a document's costs. One request is under way at a time; an edit meanwhile makes its answer void. */
  private ask(d: vscode.TextDocument): void {
    if (!isSource(d) || d.isClosed || !this.server.running) return;
    const sheet = this.sheetOf(d);
    clearTimeout(sheet.timer);
    sheet.timer = undefined;
    if (sheet.asked) {
      sheet.again = true;
      return;
    }
    const turn = ++this.turns;
    sheet.asked = turn;
    sheet.again = false;
    const version = d.version;
    const params: LinesParams = { textDocument: { uri: d.uri.toString() } };
    this.server.request<LinesResult>(MethodLines, params).then(
      (r) => {
        if (sheet.asked !== turn) return; // of a server that is gone
        if (d.version === version) this.take(d, sheet, r); else sheet.again = true;
      },
      (err: unknown) => { if (!isCancelled(err)) this.server.output.warn(`${MethodLines}: ${messageOf(err)}`); },
    ).finally(() => {
      if (sheet.asked !== turn) return;
      sheet.asked = 0;
      if (sheet.again && !sheet.timer) this.ask(d);
    });
  }

  private take(d: vscode.TextDocument, sheet: Sheet, r: LinesResult): void {
    const begin = performance.now();
    sheet.result = r;
    // Almost every answer after an edit says what is drawn already.
    const changed = !sheet.sure || !shows(sheet.marks, r.lines, d.lineCount);
    if (changed) sheet.marks = marksOf(r.lines, d.lineCount);
    for (const e of vscode.window.visibleTextEditors) {
      if (e.document === d && (changed || !this.shown.has(e))) {
        this.shown.delete(e);
        this.draw(e, sheet);
      }
    }
    sheet.sure = true;
    this.spent.answer = performance.now() - begin;
    this.numbers.fire(d.uri);
  }

  private edited(e: vscode.TextDocumentChangeEvent): void {
    const sheet = this.sheets.get(e.document.uri.toString());
    if (!sheet || e.contentChanges.length === 0) return;
    const begin = performance.now();
    if (sheet.marks.size > 0) {
      const edits: Edit[] = e.contentChanges.map((c) => ({ first: c.range.start.line, last: c.range.end.line, breaks: breaksIn(c.text) }));
      const after = moved(sheet.marks, edits);
      sheet.marks = after.marks;
      sheet.sure &&= after.sure;
      for (const editor of vscode.window.visibleTextEditors) {
        if (editor.document === e.document) this.shown.set(editor, sheet.marks);
      }
    }
    sheet.again = false;
    clearTimeout(sheet.timer);
    sheet.timer = setTimeout(() => this.ask(e.document), editDelay);
    this.spent.edit = performance.now() - begin;
  }

  private draw(editor: vscode.TextEditor, sheet: Sheet): void {
    if (this.shown.get(editor) === sheet.marks) return;
    this.shown.set(editor, sheet.marks);
    const byStep: vscode.DecorationOptions[][] = this.types.map(() => []);
    for (const [line, mark] of sheet.marks) {
      if (line >= editor.document.lineCount) continue;
      const at = editor.document.lineAt(line);
      // From the first character on, so that an edit in the line's indentation or a break before it
      // moves the mark, and one behind its end does not.
      const range = new vscode.Range(line, at.firstNonWhitespaceCharacterIndex, line, at.text.length);
      byStep[mark.step]?.push({ range, renderOptions: { after: { contentText: mark.text.replaceAll(' ', '\u00a0') } } });
    }
    this.types.forEach((type, i) => editor.setDecorations(type, byStep[i] ?? []));
  }

  /** forgetAll takes all numbers away. */
  private forgetAll(): void {
    for (const sheet of this.sheets.values()) clearTimeout(sheet.timer);
    this.sheets.clear();
    for (const e of vscode.window.visibleTextEditors) {
      if (!this.shown.delete(e)) continue;
      for (const type of this.types) e.setDecorations(type, []);
      this.numbers.fire(e.document.uri);
    }
  }

  private forget(d: vscode.TextDocument): void {
    const key = d.uri.toString();
    clearTimeout(this.sheets.get(key)?.timer);
    this.sheets.delete(key);
  }

  dispose(): void {
    clearTimeout(this.gone);
    for (const s of this.sheets.values()) clearTimeout(s.timer);
    for (const t of this.types) t.dispose();
    for (const s of this.subscriptions) s.dispose();
    this.numbers.dispose();
  }
}
