// Values over time, without a page.

/** most is how many values are kept: five minutes of them. */
export const most = 300;

/** keep adds a value to those of the last minutes. */
export function keep(values: number[], value: number): void {
  values.push(Number.isFinite(value) ? Math.max(0, value) : 0);
  if (values.length > most) values.splice(0, values.length - most);
}

/**
 * scale places values in a picture: the newest at the right edge, one every so many pixels, 0 at the
 * bottom, and at the top the most there is, or least where that is more.
 */
export function scale(values: readonly number[], width: number, height: number, least: number): [x: number, y: number][] {
  const top = Math.max(least, ...values), step = width / (most - 1) * Math.max(1, most / 120);
  const shown = values.slice(-Math.ceil(width / step) - 1);
  return shown.map((v, i) => [width - (shown.length - 1 - i) * step, height - (v / top) * height]);
}

/** keepKinds adds a value of each kind to those of the last minutes; all lists are as long as the longest. */
export function keepKinds(kinds: Map<string, number[]>, now: readonly { name: string; resident: number }[]): void {
  const before = Math.max(0, ...[...kinds.values()].map((v) => v.length));
  for (const k of now) if (k.resident > 0 && !kinds.has(k.name)) kinds.set(k.name, Array<number>(before).fill(0));
  for (const [name, values] of kinds) keep(values, now.find((k) => k.name === name)?.resident ?? 0);
}

/** stack is each list with those below it added: the last is the sum of all. */
export function stack(lists: readonly (readonly number[])[]): number[][] {
  const sums: number[][] = [];
  for (const list of lists) {
    const below = sums[sums.length - 1];
    sums.push(list.map((v, i) => v + (below?.[i] ?? 0)));
  }
  return sums;
}
