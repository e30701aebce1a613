// What is drawn at the ends of a document's lines, and how edits move it, without the editor: the
// editor moves its decorations by itself, and this is how we know that it did it right.

/** A Mark is what one line shows. */
export interface Mark {
  text: string; // "" has a place in the overview ruler only
  step: number; // of heat, from 0
}

/** Steps is how many steps the heat scale has. */
export const steps = 5;

/** stepOf is the step of a heat between 0 and 1. The steps are wider above, as costs are. */
export function stepOf(heat: number): number {
  return heat >= 0.7 ? 4 : heat >= 0.35 ? 3 : heat >= 0.15 ? 2 : heat >= 0.05 ? 1 : 0;
}

/** An Edit replaces the text from one line to another by text with some line breaks. */
export interface Edit {
  first: number;
  last: number;
  breaks: number;
}

/** breaksIn counts a text's line breaks. CR LF is one. */
export function breaksIn(text: string): number {
  let n = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 10 || (c === 13 && text.charCodeAt(i + 1) !== 10)) n++;
  }
  return n;
}

/**
 * moved are the marks after edits, the very same where none has moved. sure says whether the editor has surely moved its decorations the
 * same way: it has where no line with a mark was split, joined or deleted.
 */
export function moved(marks: Map<number, Mark>, edits: readonly Edit[]): { marks: Map<number, Mark>; sure: boolean } {
  let now = marks, sure = true;
  // Edits of one change are in the lines of before it: those further down first.
  for (const e of [...edits].sort((a, b) => b.first - a.first)) {
    const delta = e.breaks - (e.last - e.first);
    if (e.breaks === 0 && e.last === e.first) continue; // within a line
    const next = new Map<number, Mark>();
    for (const [line, mark] of now) {
      if (line < e.first) {
        next.set(line, mark);
      } else if (line > e.last) {
        next.set(line + delta, mark);
      } else {
        sure = false;
        if (line === e.first) next.set(line, mark);
      }
    }
    now = next;
  }
  return { marks: now, sure };
}

/** A Cost is what the server says of one line. */
export interface Cost { line: number; text: string; heat: number }

/** shows says whether marks are those of costs. Lines below the threshold have none. */
export function shows(marks: ReadonlyMap<number, Mark>, costs: readonly Cost[], lines: number): boolean {
  let n = 0;
  for (const c of costs) {
    if (c.text === '' || c.line >= lines) continue;
    const m = marks.get(c.line);
    if (m === undefined || m.text !== c.text || m.step !== stepOf(c.heat)) return false;
    n++;
  }
  return n === marks.size;
}

/** marksOf are the marks that costs make in a document of so many lines. */
export function marksOf(costs: readonly Cost[], lines: number): Map<number, Mark> {
  const marks = new Map<number, Mark>();
  for (const c of costs) if (c.text !== '' && c.line < lines) marks.set(c.line, { text: c.text, step: stepOf(c.heat) });
  return marks;
}
