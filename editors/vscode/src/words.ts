/**
 * splitCommand splits a command line into program and arguments as a shell does, with its quotes and
 * backslashes and nothing else: no variables, no pipes. It throws where a quote is not closed.
 */
export function splitCommand(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined, quote = '';
  for (let i = 0; i < line.length; i++) {
    const c = line.charAt(i);
    if (quote === "'") {
      if (c === "'") quote = ''; else word += c;
    } else if (c === '\\' && i + 1 < line.length && (quote === '' || '"\\$`'.includes(line.charAt(i + 1)))) {
      word = (word ?? '') + line.charAt(++i);
    } else if (quote === '"') {
      if (c === '"') quote = ''; else word += c;
    } else if (c === "'" || c === '"') {
      quote = c;
      word ??= '';
    } else if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + c;
    }
  }
  if (quote !== '') throw new Error(`The quote ${quote} is not closed.`);
  if (word !== undefined) words.push(word);
  return words;
}
