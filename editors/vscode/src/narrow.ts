/**
 * narrow is a function's name for a narrow place: without its module and the folders of its package.
 * The whole name stands in the tooltip.
 */
export function narrow(name: string): string {
  const bare = name.slice(name.indexOf('!') + 1);
  const brackets = bare.search(/[([{<]/); // what is in brackets are types with folders of their own
  const slash = bare.lastIndexOf('/', brackets < 0 ? bare.length : brackets);
  return bare.slice(slash + 1) || name;
}
