// Runs a mocha suite and answers its results as lines.
import fs from 'node:fs';

export async function run(load: () => void, timeout: number): Promise<number> {
  const module = require('mocha') as { default?: unknown };
  const Mocha = (module.default ?? module) as typeof import('mocha'); // an ES module since version 12
  const mocha = new Mocha({ ui: 'bdd', timeout, color: false, reporter: class {} as never, ...(process.env.MATCH ? { fgrep: process.env.MATCH } : {}) });
  mocha.suite.emit('pre-require', globalThis as never, '', mocha);
  load();
  const results: string[] = [];
  return new Promise((resolve) => {
    const runner = mocha.run((failures) => {
      if (process.env.SIGHTLINE_RESULTS) fs.writeFileSync(process.env.SIGHTLINE_RESULTS, `${results.join('\n')}\n${results.length - failures} passed, ${failures} failed\n`);
      resolve(failures);
    });
    const note = (line: string): void => { results.push(line); if (!process.env.SIGHTLINE_RESULTS) console.log(line); };
    runner.on('pass', (t) => note(`ok   ${t.fullTitle()} (${t.duration} ms)`));
    runner.on('fail', (t, err: Error) => note(`FAIL ${t.fullTitle()}\n     ${String(err.stack ?? err).replaceAll('\n', '\n     ')}`));
  });
}
