// A process that runs: what it uses now, its threads, what it has open and what grows. Drawn of what the
// server answers.
import type { FromPage, PageState, ToPage } from '../src/process/messages';
import type { Location, ProcessLine, ProcessMap, ProcessResult } from '../src/protocol';
import { keep, keepKinds, scale, stack } from './series';

declare function acquireVsCodeApi(): { postMessage(m: FromPage): void };
const vscode = acquireVsCodeApi();

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

const cpu: number[] = [], memory: number[] = [], kinds = new Map<string, number[]>();
/** the theme's colours of kinds; others are drawn in grey */
const kindColors = new Map([
  ['Image', '--vscode-charts-purple'], ['Mapped file', '--vscode-terminal-ansiCyan'], ['Shareable', '--vscode-charts-blue'], ['Heap', '--vscode-charts-orange'],
  ['Managed heap', '--vscode-charts-red'], ['Runtime metadata', '--vscode-charts-yellow'], ['Stack', '--vscode-charts-green'],
]);
let mapTime = 0;
let updates = 0, ended = '', lines = 0;

function cell(row: HTMLTableRowElement, text: string, kind = ''): void {
  const td = row.insertCell();
  td.textContent = text;
  td.title = text;
  if (kind) td.className = kind;
}

function rows(id: string, all: readonly { cells: [text: string, kind?: string][] }[], more: number): void {
  const made = all.map(({ cells }) => {
    const row = document.createElement('tr');
    for (const [text, kind] of cells) cell(row, text, kind);
    return row;
  });
  if (more > 0) {
    const row = document.createElement('tr');
    cell(row, '');
    cell(row, '');
    cell(row, `and ${more} more`, 'quiet');
    made.push(row);
  }
  element(id).replaceChildren(...made);
}

function facts(p: ProcessResult): void {
  element('facts').replaceChildren(...p.facts.map((f) => {
    const group = document.createElement('div'), name = document.createElement('dt'), text = document.createElement('dd');
    name.textContent = f.name;
    text.textContent = f.text;
    group.title = f.detail;
    group.append(name, text);
    return group;
  }));
}

function leaks(p: ProcessResult): void {
  element('leaks-part').hidden = p.leaks.length === 0;
  element('leaks').replaceChildren(...p.leaks.map((l) => {
    const group = document.createElement('div'), head = document.createElement('p'), amount = document.createElement('b');
    amount.textContent = l.text;
    head.append(`${l.type} ${l.name}: `, amount);
    group.append(head);
    for (const line of l.lines) {
      lines++;
      group.append(place(line.text, line.location));
    }
    return group;
  }));
}

function place(text: string, location: Location | undefined): HTMLElement {
  if (!location) {
    const plain = document.createElement('span');
    plain.textContent = text;
    return plain;
  }
  const button = document.createElement('button');
  button.textContent = text;
  button.title = 'Go to this line';
  button.addEventListener('click', () => vscode.postMessage({ type: 'open', location }));
  return button;
}

function kindColor(name: string): string {
  return `var(${kindColors.get(name) ?? '--vscode-descriptionForeground'})`;
}

function row(kind = ''): HTMLTableRowElement {
  const made = document.createElement('tr');
  if (kind) made.className = kind;
  return made;
}

/** below are rows with the lines of the source behind a row. */
function below(all: readonly ProcessLine[], columns: number): HTMLTableRowElement[] {
  return all.map((line) => {
    lines++;
    const made = row('below'), td = made.insertCell();
    td.colSpan = columns;
    td.append(place(line.text, line.location));
    return made;
  });
}

/** bar draws the kinds side by side, as wide as they are resident. */
function bar(m: ProcessMap): void {
  const shown = m.kinds.filter((k) => k.resident > 0);
  element('kind-bar').setAttribute('aria-label', shown.map((k) => `${k.name} ${k.share}`).join(', '));
  element('kind-bar').replaceChildren(...shown.map((k) => {
    const part = document.createElement('span');
    part.style.flexGrow = `${k.resident}`;
    part.style.background = kindColor(k.name);
    part.title = `${k.name}: ${k.share}`;
    return part;
  }));
}

function kindTable(m: ProcessMap): void {
  const head = row(), body = document.createElement('tbody'), top = document.createElement('thead');
  for (const [name, title] of [['Kind', ''], ['Share', ''], ...m.columns.map((c) => [c.name, c.detail])] as [string, string][]) {
    const th = document.createElement('th');
    th.textContent = name;
    th.title = title;
    if (name !== 'Kind') th.className = 'n';
    head.append(th);
  }
  top.append(head);
  for (const k of m.kinds) {
    const made = row(k.share ? '' : 'quiet'), name = made.insertCell(), mark = document.createElement('i');
    mark.style.background = k.share ? kindColor(k.name) : 'transparent';
    name.append(mark, k.name);
    name.title = k.detail;
    cell(made, k.share, 'n');
    for (const text of k.cells) cell(made, text, 'n');
    body.append(made);
  }
  element('kinds').replaceChildren(top, body);
}

function map(m: ProcessMap | undefined): void {
  element('map-part').hidden = !m;
  if (!m) return;
  if (m.time !== mapTime) {
    mapTime = m.time;
    keepKinds(kinds, m.kinds);
  }
  element('map-text').textContent = m.text;
  element('map-note').textContent = m.note;
  bar(m);
  kindTable(m);
  element('terms-part').hidden = m.terms.length === 0;
  element('terms').replaceChildren(...m.terms.flatMap((t) => {
    const made = row();
    cell(made, t.name);
    for (const text of [t.text, t.share, t.number]) cell(made, text, 'n');
    cell(made, t.advice, 'quiet');
    return [made, ...below(t.lines, 5)];
  }));
  element('terms-sum').textContent = m.sum;
  element('stacks-part').hidden = m.stacks.length === 0;
  element('stacks').replaceChildren(...m.stacks.map((g) => {
    lines++;
    const group = document.createElement('div'), size = document.createElement('b');
    size.textContent = `${g.size} `;
    group.append(size, place(g.line.text, g.line.location));
    return group;
  }));
  element('regions-part').hidden = m.regions.length === 0;
  element('regions-count').textContent = `${m.regions.length + m.more}`;
  element('regions').replaceChildren(...m.regions.flatMap((r) => {
    const made = row();
    for (const text of [r.start, r.size, r.resident]) cell(made, text, 'n');
    for (const text of [r.protection, r.kind, r.name]) cell(made, text);
    return [made, ...below(r.lines, 6)];
  }));
  if (m.more > 0) {
    const made = row('quiet'), td = made.insertCell();
    td.colSpan = 6;
    td.textContent = `and ${m.more} more`;
    element('regions').append(made);
  }
}

/** drawKinds draws the kinds of the last minutes one upon the other. */
function drawKinds(): void {
  const canvas = element<HTMLCanvasElement>('memory-line'), context = sized(canvas);
  if (!context) return;
  const width = canvas.clientWidth, height = canvas.clientHeight, style = getComputedStyle(document.documentElement);
  const names = [...kinds.keys()], sums = stack(names.map((n) => kinds.get(n) ?? [])), most = Math.max(1, ...(sums[sums.length - 1] ?? []));
  for (let i = sums.length - 1; i >= 0; i--) { // what is drawn later covers its part of what is above it
    const points = scale(sums[i] ?? [], width, height - 2, most), first = points[0], last = points[points.length - 1];
    if (!first || !last) continue;
    const color = kindColors.get(names[i] ?? '') ?? '--vscode-descriptionForeground';
    context.fillStyle = style.getPropertyValue(color).trim() || style.color;
    context.beginPath();
    points.forEach(([x, y], k) => { if (k === 0) context.moveTo(x, y + 1); else context.lineTo(x, y + 1); });
    context.lineTo(last[0], height);
    context.lineTo(first[0], height);
    context.fill();
  }
}

/** sized is a canvas as large as it is shown, empty; nothing where it is not shown. */
function sized(canvas: HTMLCanvasElement): CanvasRenderingContext2D | undefined {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (width === 0) return undefined;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  context.scale(ratio, ratio);
  return context;
}

/** draw draws values of the last minutes from right to left, the most at the top. */
function draw(id: string, values: readonly number[], color: string, least: number): void {
  const canvas = element<HTMLCanvasElement>(id), context = sized(canvas);
  if (!context) return;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const style = getComputedStyle(document.documentElement);
  context.strokeStyle = context.fillStyle = style.getPropertyValue(color).trim() || style.color;
  const points = scale(values, width, height - 2, least);
  context.beginPath();
  points.forEach(([x, y], i) => { if (i === 0) context.moveTo(x, y + 1); else context.lineTo(x, y + 1); });
  context.lineWidth = 1.5;
  context.stroke();
  const first = points[0], last = points[points.length - 1];
  if (!first || !last) return;
  context.lineTo(last[0], height);
  context.lineTo(first[0], height);
  context.globalAlpha = 0.18;
  context.fill();
}

function drawAll(): void {
  draw('cpu-line', cpu, '--vscode-charts-blue', 1);
  if (kinds.size > 0) drawKinds();
  else draw('memory-line', memory, '--vscode-charts-purple', 1);
}

function show(p: ProcessResult): void {
  updates++;
  keep(cpu, p.cpu);
  keep(memory, p.memory);
  element('title').textContent = p.title;
  element('command').textContent = element('command').title = p.command;
  element('note').textContent = p.note;
  const fact = (name: string): string => p.facts.find((f) => f.name === name)?.text ?? '';
  element('cpu').textContent = fact('CPU');
  element('memory').textContent = fact('resident');
  lines = 0;
  facts(p);
  map(p.map);
  leaks(p);
  element('threads-count').textContent = `${p.threads.length + p.moreThreads}`;
  element('files-count').textContent = `${p.files.length + p.moreFiles}`;
  rows('threads', p.threads.map((t) => ({ cells: [[t.text, 'n'], [`${t.tid}`, 'n'], [t.name], [t.state], [t.wait, 'quiet']] })), p.moreThreads);
  rows('files', p.files.map((f) => ({ cells: [[f.fd, 'n'], [f.type], [f.name]] })), p.moreFiles);
  drawAll();
}

function report(p?: ProcessResult): void {
  const state: PageState = {
    updates, title: element('title').textContent ?? '', facts: p?.facts.length ?? 0, threads: p?.threads.length ?? 0, files: p?.files.length ?? 0,
    leaks: p?.leaks.length ?? 0, lines, kinds: p?.map?.kinds.length ?? 0, terms: p?.map?.terms.length ?? 0, regions: p?.map?.regions.length ?? 0,
    map: p?.map?.text ?? '', ended, theme: document.body.dataset.vscodeThemeKind ?? '',
  };
  vscode.postMessage({ type: 'state', state });
}

window.addEventListener('message', (e: MessageEvent<ToPage>) => {
  const m = e.data;
  if (m.type === 'process') {
    show(m.process);
    report(m.process);
  } else {
    ended = m.text;
    element('note').textContent = m.text;
    document.body.classList.add('ended');
    report();
  }
});
window.addEventListener('resize', drawAll);
new MutationObserver(drawAll).observe(document.body, { attributes: true, attributeFilter: ['class', 'data-vscode-theme-kind'] });
vscode.postMessage({ type: 'ready' });
