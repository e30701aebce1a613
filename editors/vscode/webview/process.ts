// A process that runs: what it uses now, its threads, what it has open and what grows. Drawn of what the
// server answers.
import type { FromPage, PageState, ToPage } from '../src/process/messages';
import type { Location, ProcessResult } from '../src/protocol';
import { keep, scale } from './series';

declare function acquireVsCodeApi(): { postMessage(m: FromPage): void };
const vscode = acquireVsCodeApi();

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

const cpu: number[] = [], memory: number[] = [];
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
  lines = 0;
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

/** draw draws values of the last minutes from right to left, the most at the top. */
function draw(id: string, values: readonly number[], color: string, least: number): void {
  const canvas = element<HTMLCanvasElement>(id), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (width === 0) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  context.scale(ratio, ratio);
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
  draw('memory-line', memory, '--vscode-charts-purple', 1);
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
  facts(p);
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
    leaks: p?.leaks.length ?? 0, lines, ended, theme: document.body.dataset.vscodeThemeKind ?? '',
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
