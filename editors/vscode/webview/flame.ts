// A flame graph on a canvas: callers above, callees below. Drawn of what the server answers.
import type { FromView, ToView } from '../src/flame/messages';
import type { FlameResult } from '../src/protocol';
import { paletteOf, type Palette } from './colors';
import { ancestorsOf, at, childrenOf, families, isFunction, layout, matcher, matching, step, type Layout } from './layout';

declare function acquireVsCodeApi(): { postMessage(m: FromView): void; getState(): unknown; setState(s: unknown): void };
const vscode = acquireVsCodeApi();

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}
const scroll = element('scroll'), size = element('size'), canvas = element<HTMLCanvasElement>('canvas');
const tip = element('tip'), note = element('note'), legend = element('legend'), status = element('status');
const search = element<HTMLInputElement>('search'), matches = element('matches');
const reset = element<HTMLButtonElement>('reset'), save = element<HTMLButtonElement>('save');
const [titleText, titleDetail] = [...element('title').children] as [HTMLElement, HTMLElement];
const context = canvas.getContext('2d') as CanvasRenderingContext2D;

const rowHeight = 20, legendSize = 6;

let graph: FlameResult | undefined, diff = false;
let children: number[][] = [], family: string[] = [], order: string[] = [];
let own: string[] = [], ownNames: boolean[] = [];
let zoom = 0, selected = -1, hovered = -1, found = new Set<number>(), foundList: number[] = [], cursor = -1;
let drawn: Layout = { rects: [], rows: [] }, palette: Palette, font = '12px sans-serif';
let familyColors = new Map<string, string>();
let laid: { graph: FlameResult; zoom: number; width: number } | undefined; // what drawn is of
let told = ''; // the state that the extension has
let marked = new Set<number>(); // names that the source's cursor is in
let due = 0;

function theme(): void {
  const style = getComputedStyle(document.body);
  palette = paletteOf((name) => style.getPropertyValue(name) || getComputedStyle(document.documentElement).getPropertyValue(name));
  font = `12px ${style.fontFamily || 'sans-serif'}`;
  colorFamilies();
  paintLegend();
  schedule();
}

function schedule(): void {
  if (due === 0) due = requestAnimationFrame(() => { due = 0; draw(); });
}

const widths = new Map<string, number>();
function widthOf(text: string): number {
  let w = widths.get(text);
  if (w === undefined) {
    if (widths.size > 20_000) widths.clear();
    widths.set(text, w = context.measureText(text).width);
  }
  return w;
}

function fit(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (widthOf(`${text.slice(0, middle)}…`) <= width) low = middle; else high = middle - 1;
  }
  return low >= 2 ? `${text.slice(0, low)}…` : '';
}

function colorOf(box: number): string {
  const b = graph?.boxes[box];
  if (!graph || !b) return palette.none;
  if (diff) return b.g > 0 ? palette.grew : b.g < 0 ? palette.shrank : palette.none;
  if (b.p < 0) return palette.none;
  return familyColor(family[b.n] ?? '', ownNames[b.n] === true);
}

function familyColor(f: string, isOwn: boolean): string {
  return isOwn ? palette.own : familyColors.get(f) ?? palette.rest;
}

/** colorFamilies gives the few colours there are to the families that matter, once for each graph and theme. */
function colorFamilies(): void {
  const others = order.filter((o) => o !== 'kernel' && o !== 'runtime' && !ownFamilies().has(o));
  familyColors = new Map(palette.others.flatMap((color, i) => others[i] !== undefined ? [[others[i], color]] : []));
  familyColors.set('kernel', palette.kernel).set('runtime', palette.runtime);
}

let ownCache: Set<string> | undefined;
function ownFamilies(): Set<string> {
  return ownCache ??= new Set(family.filter((_, i) => ownNames[i]));
}

function draw(): void {
  const width = scroll.clientWidth, height = scroll.clientHeight, ratio = window.devicePixelRatio || 1;
  if (!graph || width === 0) return;
  if (laid?.graph !== graph || laid.zoom !== zoom || laid.width !== width) {
    drawn = layout(graph, zoom, width);
    laid = { graph, zoom, width };
  }
  const total = (drawn.rows.length - 1) * rowHeight;
  size.style.height = `${total}px`;
  const shownHeight = Math.min(height, Math.max(total, rowHeight));
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(shownHeight * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(shownHeight * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${shownHeight}px`;
  }
  const top = scroll.scrollTop;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, shownHeight);
  context.font = font;
  context.textBaseline = 'middle';
  const searching = found.size > 0 || search.value.trim() !== '';
  const first = Math.max(0, Math.floor(top / rowHeight)), last = Math.min(drawn.rows.length - 2, Math.floor((top + shownHeight) / rowHeight));
  for (let row = first; row <= last; row++) {
    for (let i = drawn.rows[row] ?? 0; i < (drawn.rows[row + 1] ?? 0); i++) {
      const r = drawn.rects[i];
      const b = r && graph.boxes[r.box];
      if (!r || !b) continue;
      const y = row * rowHeight - top, w = Math.max(r.width - (r.width > 3 ? 1 : 0), 0.5);
      const isFound = found.has(r.box), isMarked = marked.has(b.n);
      context.globalAlpha = r.dim ? 0.55 : searching && !isFound ? 0.35 : 1;
      context.fillStyle = isFound ? palette.match : colorOf(r.box);
      context.fillRect(r.x, y, w, rowHeight - 1);
      if (r.box === hovered || r.box === selected || isMarked) {
        context.globalAlpha = 1;
        context.strokeStyle = r.box === hovered && r.box !== selected && !isMarked ? palette.text : palette.select;
        context.lineWidth = r.box === hovered ? 1 : 2;
        if (w > 4) context.strokeRect(r.x + 1, y + 1, w - 2, rowHeight - 3);
      }
      if (w > 22) {
        context.fillStyle = palette.text;
        const from = Math.max(r.x, 0) + 5;
        const text = fit(labelOf(r.box), r.x + w - from - 4);
        if (text) context.fillText(text, from, y + rowHeight / 2);
      }
    }
  }
  context.globalAlpha = 1;
  reset.disabled = zoom === 0;
  const state = {
    boxes: graph.boxes.length, zoomed: nameOf(zoom), selected: nameOf(selected), matches: foundList.length,
    theme: document.body.dataset.vscodeThemeKind ?? '',
  };
  if (told !== JSON.stringify(state)) {
    told = JSON.stringify(state);
    vscode.postMessage({ type: 'state', state });
  }
}

function nameOf(box: number): string { const b = graph?.boxes[box]; return b ? graph?.names[b.n] ?? '' : ''; }
function labelOf(box: number): string { const b = graph?.boxes[box]; return b ? graph?.labels[b.n] ?? '' : ''; }

function describe(box: number): string {
  const b = graph?.boxes[box];
  return b ? `${labelOf(box)} · ${b.t}${b.s ? ` · self ${b.s}` : ''}` : '';
}

function paintLegend(): void {
  legend.replaceChildren();
  if (!graph || !palette) return;
  const add = (color: string, text: string, find?: string): void => {
    const chip = document.createElement('button');
    const swatch = document.createElement('i');
    swatch.style.background = color;
    chip.append(swatch, text);
    if (find) { chip.title = `Find what belongs to ${text}`; chip.onclick = () => { search.value = find; lookFor(); }; } else chip.disabled = true;
    legend.append(chip);
  };
  if (diff) {
    add(palette.grew, 'grew');
    add(palette.shrank, 'shrank');
    return;
  }
  const ours = order.filter((f) => ownFamilies().has(f)); // what a person can change comes first
  for (const f of [...ours, ...order.filter((o) => !ours.includes(o))].slice(0, legendSize)) {
    if (f) add(familyColor(f, ownFamilies().has(f)), f, f === 'kernel' ? undefined : `\\b${f.replace(/[^\w]/g, '\\$&')}(\\.|::)`);
  }
}

function lookFor(): void {
  const test = graph && matcher(search.value);
  foundList = graph && test ? matching(graph, test) : [];
  found = new Set(foundList);
  cursor = -1;
  matches.textContent = test ? (foundList.length === 0 ? 'none' : foundList.length === 1 ? '1 box' : `${foundList.length} boxes`) : '';
  schedule();
}

function show(box: number): void {
  const b = graph?.boxes[box];
  if (!graph || !b) return;
  selected = box;
  if (zoom !== 0 && box !== zoom) {
    const z = graph.boxes[zoom];
    if (z && (b.x < z.x - 1e-9 || b.x + b.w > z.x + z.w + 1e-9)) zoom = 0;
  }
  const y = b.d * rowHeight;
  if (y < scroll.scrollTop || y + rowHeight > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = Math.max(0, y - scroll.clientHeight / 3);
  status.textContent = describe(box);
  schedule();
}

function zoomTo(box: number): void {
  zoom = box >= 0 ? box : 0;
  hide();
  schedule();
}

function open(box: number): void {
  const b = graph?.boxes[box], location = b && graph?.locations[b.n];
  if (location) vscode.postMessage({ type: 'open', location });
  else if (b) status.textContent = `${describe(box)} · its source is not known`;
}

function hide(): void { tip.hidden = true; hovered = -1; }

function hover(e: MouseEvent): void {
  const r = canvas.getBoundingClientRect();
  const box = at(drawn, e.clientX - r.left, Math.floor((e.clientY - r.top + scroll.scrollTop) / rowHeight));
  if (box !== hovered) {
    hovered = box;
    schedule();
    const b = graph?.boxes[box];
    tip.replaceChildren();
    if (b && graph) {
      const line = (text: string, className: string): void => { const d = document.createElement('div'); d.className = className; d.textContent = text; tip.append(d); };
      line(nameOf(box), 'name');
      line(`${b.t}${b.s ? `   self ${b.s}` : ''}`, 'cost');
      const location = graph.locations[b.n];
      if (location) line(`${decodeURIComponent(location.uri.slice(location.uri.lastIndexOf('/') + 1))}:${location.line + 1}`, 'place');
    }
  }
  canvas.style.cursor = box >= 0 ? 'pointer' : 'default';
  tip.hidden = box < 0;
  if (box >= 0) {
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(e.clientX + 14, window.innerWidth - w - 8))}px`;
    tip.style.top = `${e.clientY + 18 + h > window.innerHeight ? Math.max(4, e.clientY - h - 10) : e.clientY + 18}px`;
  }
}

let click = 0;
canvas.addEventListener('mousemove', hover);
canvas.addEventListener('mouseleave', () => { hide(); schedule(); });
canvas.addEventListener('click', (e) => {
  hover(e);
  const box = hovered;
  if (box < 0) return;
  selected = box;
  status.textContent = describe(box);
  schedule();
  clearTimeout(click);
  if (e.detail === 1) click = window.setTimeout(() => open(box), 220); // unless it becomes a double click
});
canvas.addEventListener('dblclick', () => { clearTimeout(click); if (hovered >= 0) zoomTo(hovered === zoom ? 0 : hovered); });
scroll.addEventListener('scroll', () => { hide(); schedule(); });
scroll.addEventListener('keydown', (e) => {
  if (!graph) return;
  const keys: Record<string, 'up' | 'down' | 'left' | 'right'> = { ArrowUp: 'up', ArrowDown: 'down', ArrowLeft: 'left', ArrowRight: 'right' };
  const way = keys[e.key];
  if (way) show(selected < 0 ? zoom : step(graph, children, selected, way));
  else if (e.key === 'Enter' && selected >= 0) open(selected);
  else if (e.key === ' ' && selected >= 0) zoomTo(selected === zoom ? 0 : selected);
  else if (e.key === 'Escape') { if (zoom !== 0) zoomTo(0); else { search.value = ''; lookFor(); } }
  else if (e.key === '/') search.focus();
  else if (e.key === 'c' && (e.ctrlKey || e.metaKey) && selected >= 0) vscode.postMessage({ type: 'copy', text: nameOf(selected) });
  else return;
  e.preventDefault();
});
search.addEventListener('input', lookFor);
search.addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && foundList.length > 0) {
    cursor = (cursor + (e.shiftKey ? foundList.length - 1 : 1)) % foundList.length;
    show(foundList[cursor] ?? 0);
  } else if (e.key === 'Escape') {
    search.value = '';
    lookFor();
    scroll.focus();
  }
});
reset.addEventListener('click', () => zoomTo(0));
save.addEventListener('click', () => vscode.postMessage({ type: 'save' }));
new ResizeObserver(schedule).observe(scroll);
new MutationObserver(theme).observe(document.body, { attributes: true, attributeFilter: ['class', 'data-vscode-theme-id'] });

function know(): void {
  ownNames = graph ? graph.locations.map((l) => l !== null && own.some((p) => l.uri.startsWith(p))) : [];
  ownCache = undefined;
  colorFamilies();
  paintLegend();
}

window.addEventListener('message', (e: MessageEvent<ToView>) => {
  const m = e.data;
  switch (m.type) {
    case 'graph':
      graph = m.graph;
      diff = m.diff;
      children = childrenOf(graph);
      ({ of: family, order } = families(graph));
      zoom = 0; selected = hovered = -1; marked.clear();
      note.hidden = graph.boxes.length > 0;
      note.textContent = graph.boxes.length > 0 ? '' : 'There is nothing to draw: no sample was taken.';
      titleText.textContent = titleText.title = graph.title;
      titleDetail.textContent = graph.text;
      status.textContent = '';
      know();
      lookFor();
      break;
    case 'title':
      titleText.textContent = m.text;
      break;
    case 'error':
      note.hidden = false;
      note.textContent = m.text;
      break;
    case 'own':
      own = m.prefixes;
      know();
      schedule();
      break;
    case 'find': {
      marked = new Set(graph ? graph.names.flatMap((n, i) => m.name !== '' && isFunction(n, m.name) ? [i] : []) : []);
      if (m.zoom && graph) {
        const widest = matching(graph, (n) => isFunction(n, m.name))[0];
        if (widest !== undefined) { zoom = 0; show(widest); }
      }
      schedule();
      break;
    }
  }
});

/** Tests ask where a function's widest box is, and drive the graph as a person would. */
Object.assign(window, {
  sightlineWhere(name: string): { x: number; y: number } | undefined {
    const boxes = graph ? new Set(matching(graph, (n) => n.endsWith(name))) : new Set<number>();
    const rect = drawn.rects.filter((r) => boxes.has(r.box)).sort((a, b) => b.width - a.width)[0];
    return rect && { x: rect.x + Math.min(rect.width / 2, 40), y: rect.row * rowHeight + rowHeight / 2 - scroll.scrollTop };
  },
  sightlineAncestors(name: string): string[] {
    const box = graph ? matching(graph, (n) => n.endsWith(name))[0] : undefined;
    return graph && box !== undefined ? ancestorsOf(graph, box).map(nameOf) : [];
  },
});

theme();
vscode.postMessage({ type: 'ready' });
