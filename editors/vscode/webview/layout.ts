// The geometry of a flame graph, without a canvas: which box lies where, what is under the mouse,
// what a search finds. All numbers that are shown are the server's texts; widths are only drawn.
import type { FlameResult } from '../src/protocol';

/** Rect is a box as it is drawn: x and width in pixels, row from 0 at the top. */
export interface Rect { box: number; row: number; x: number; width: number; dim: boolean }

/** A Layout is what is visible of a graph at one zoom and width. */
export interface Layout {
  rects: Rect[]; // by row, then by x
  rows: number[]; // index into rects of each row's first; one more for the end
}

/** least is the narrowest box, in pixels, that is drawn. */
const least = 0.4;

/** childrenOf lists each box's children, from left to right. */
export function childrenOf(g: FlameResult): number[][] {
  const children: number[][] = g.boxes.map(() => []);
  g.boxes.forEach((b, i) => { if (b.p >= 0) children[b.p]?.push(i); });
  for (const c of children) c.sort((a, b) => (g.boxes[a]?.x ?? 0) - (g.boxes[b]?.x ?? 0));
  return children;
}

/** ancestorsOf lists a box's callers, nearest first. */
export function ancestorsOf(g: FlameResult, box: number): number[] {
  const all: number[] = [];
  for (let p = g.boxes[box]?.p ?? -1; p >= 0; p = g.boxes[p]?.p ?? -1) all.push(p);
  return all;
}

/** layout places the boxes so that one of them takes the whole width. Its callers stay above it. */
export function layout(g: FlameResult, zoom: number, width: number): Layout {
  const focus = g.boxes[zoom] ?? { x: 0, w: 1, d: 0 };
  const from = focus.x, scale = focus.w > 0 ? width / focus.w : 0, to = focus.x + focus.w, epsilon = 1e-9;
  const byRow: Rect[][] = [];
  const above = new Set(ancestorsOf(g, zoom));
  g.boxes.forEach((b, box) => {
    let rect: Rect;
    if (above.has(box)) {
      rect = { box, row: b.d, x: 0, width, dim: true };
    } else {
      if (b.d < focus.d || b.x + b.w <= from + epsilon || b.x >= to - epsilon) return;
      rect = { box, row: b.d, x: (b.x - from) * scale, width: b.w * scale, dim: false };
      if (rect.width < least) return;
    }
    (byRow[b.d] ??= []).push(rect);
  });
  const rects: Rect[] = [], rows: number[] = [];
  for (let row = 0; row < byRow.length; row++) {
    rows.push(rects.length);
    rects.push(...(byRow[row] ?? []).sort((a, b) => a.x - b.x));
  }
  rows.push(rects.length);
  return { rects, rows };
}

/** at is the box under a place, or -1. */
export function at(l: Layout, x: number, row: number): number {
  let low = l.rows[row] ?? 0, high = (l.rows[row + 1] ?? 0) - 1;
  while (low <= high) {
    const middle = (low + high) >> 1, r = l.rects[middle];
    if (!r) break;
    if (x < r.x) high = middle - 1;
    else if (x >= r.x + r.width) low = middle + 1;
    else return r.box;
  }
  return -1;
}

/** matcher makes of a search's text what finds names: a regular expression where it is one. */
export function matcher(text: string): ((name: string) => boolean) | undefined {
  if (text.trim() === '') return undefined;
  try {
    const re = new RegExp(text, text === text.toLowerCase() ? 'i' : '');
    return (name) => re.test(name);
  } catch {
    const plain = text.toLowerCase();
    return (name) => name.toLowerCase().includes(plain);
  }
}

/**
 * isFunction says whether two names are of one function. A function is Module!Name, and the module may
 * be told with its folders or without.
 */
export function isFunction(a: string, b: string): boolean {
  const bare = (s: string): string => {
    const bang = s.indexOf('!');
    return bang < 0 ? s : s.slice(s.lastIndexOf('/', bang) + 1);
  };
  const x = bare(a), y = bare(b);
  return x === y || (x.includes('!') !== y.includes('!') && x.slice(x.indexOf('!') + 1) === y.slice(y.indexOf('!') + 1));
}

/** matching are the boxes whose function is found, from the widest. */
export function matching(g: FlameResult, found: (name: string) => boolean): number[] {
  const names = g.names.map((n, i) => found(n) || found(g.labels[i] ?? ''));
  return g.boxes.flatMap((b, i) => names[b.n] ? [i] : []).sort((a, b) => (g.boxes[b]?.w ?? 0) - (g.boxes[a]?.w ?? 0));
}

/** familyOf is what a function belongs to, for its colour: its package, name space or module. */
export function familyOf(name: string, label: string, module: string): string {
  if (/^\[?kernel\]?$/.test(module) || name.startsWith('kernel!')) return 'kernel';
  const end = label.search(/\.|::/);
  if (end > 0) return label.slice(0, end);
  return module.slice(module.lastIndexOf('/') + 1) || label;
}

/**
 * families orders what functions belong to by the width that is their own, the widest first: so the
 * few colours there are go to what matters.
 */
export function families(g: FlameResult): { of: string[]; order: string[] } {
  const of = g.names.map((n, i) => familyOf(n, g.labels[i] ?? n, g.modules[i] ?? ''));
  const self = g.boxes.map((b) => b.w);
  for (const b of g.boxes) if (b.p >= 0) self[b.p] = (self[b.p] ?? 0) - b.w;
  const sums = new Map<string, number>();
  g.boxes.forEach((b, i) => {
    if (b.p < 0) return; // the root is nobody's
    const f = of[b.n] ?? '';
    sums.set(f, (sums.get(f) ?? 0) + Math.max(0, self[i] ?? 0));
  });
  return { of, order: [...sums.entries()].sort((a, b) => b[1] - a[1]).map(([f]) => f) };
}

/** step is the box that a key leads to from a box: along the tree, or to the neighbour in its row. */
export function step(g: FlameResult, children: number[][], box: number, key: 'up' | 'down' | 'left' | 'right'): number {
  const b = g.boxes[box];
  if (!b) return 0;
  if (key === 'up') return b.p >= 0 ? b.p : box;
  if (key === 'down') {
    const heaviest = [...(children[box] ?? [])].sort((x, y) => (g.boxes[y]?.w ?? 0) - (g.boxes[x]?.w ?? 0))[0];
    return heaviest ?? box;
  }
  const siblings = b.p >= 0 ? children[b.p] ?? [] : [box];
  return siblings[siblings.indexOf(box) + (key === 'left' ? -1 : 1)] ?? box;
}
