// The colours of a flame graph, made of the theme's own.

export type RGB = [number, number, number];

/** parse reads a colour as browsers compute it, or as themes write it. */
export function parse(text: string): RGB | undefined {
  const t = text.trim();
  const short = /^#([0-9a-f])([0-9a-f])([0-9a-f])[0-9a-f]?$/i.exec(t);
  if (short) return [1, 2, 3].map((i) => parseInt((short[i] ?? '0').repeat(2), 16)) as RGB;
  const long = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})(?:[0-9a-f]{2})?$/i.exec(t);
  if (long) return [1, 2, 3].map((i) => parseInt(long[i] ?? '0', 16)) as RGB;
  const call = /^rgba?\(\s*([\d.]+)[\s,]+([\d.]+)[\s,]+([\d.]+)/.exec(t);
  if (call) return [1, 2, 3].map((i) => Number(call[i])) as RGB;
  return undefined;
}

/** mix is so much of a over b. */
export function mix(a: RGB, b: RGB, part: number): RGB {
  return a.map((v, i) => Math.round(v * part + (b[i] ?? 0) * (1 - part))) as RGB;
}

export function css(c: RGB): string { return `rgb(${c.join(', ')})`; }

/** A Palette is what boxes are drawn with. */
export interface Palette {
  background: string; text: string; border: string; match: string; select: string;
  own: string; others: string[]; rest: string; kernel: string; runtime: string; grew: string; shrank: string; none: string;
}

/** paletteOf makes the palette from the theme's variables. */
export function paletteOf(variable: (name: string) => string): Palette {
  const get = (name: string, fallback: RGB): RGB => parse(variable(name)) ?? fallback;
  const back = get('--vscode-editor-background', [30, 30, 30]);
  const text = get('--vscode-editor-foreground', [204, 204, 204]);
  const dark = back[0] + back[1] + back[2] < 384;
  const soft = (c: RGB, part = dark ? 0.42 : 0.36): string => css(mix(c, back, part));
  const orange = get('--vscode-charts-orange', [209, 134, 22]), yellow = get('--vscode-charts-yellow', [204, 167, 0]);
  const green = get('--vscode-charts-green', [56, 138, 52]), blue = get('--vscode-charts-blue', [55, 148, 255]);
  const purple = get('--vscode-charts-purple', [177, 128, 215]), red = get('--vscode-charts-red', [241, 76, 76]);
  return {
    background: css(back), text: css(text), border: css(back),
    match: css(get('--vscode-editor-findMatchBackground', dark ? [159, 98, 44] : [166, 122, 40])),
    select: css(get('--vscode-focusBorder', [0, 120, 212])),
    own: soft(orange, dark ? 0.62 : 0.55), others: [yellow, green, mix(orange, red, 0.4), mix(yellow, green, 0.5), mix(red, purple, 0.5)].map((c) => soft(c)),
    rest: soft(mix(yellow, text, 0.35), dark ? 0.28 : 0.24), kernel: soft(purple), runtime: soft(blue, dark ? 0.38 : 0.3),
    grew: soft(red, 0.55), shrank: soft(green, 0.5), none: soft(text, 0.14),
  };
}
