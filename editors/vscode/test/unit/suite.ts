import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import manifest from '../../package.json';
import schema from '../../schema/sightline.json';
import { findProgram, versionMismatch } from '../../src/binary';
import { breaksIn, marksOf, moved, shows, stepOf, steps, type Mark } from '../../src/drawn';
import type { FlameResult } from '../../src/protocol';
import { splitCommand } from '../../src/words';
import { mix, paletteOf, parse } from '../../webview/colors';
import { keep, keepKinds, most, scale, stack } from '../../webview/series';
import { at, childrenOf, families, familyOf, isFunction, layout, matcher, matching, step } from '../../webview/layout';

describe('the extension\'s manifest', () => {
  const commands = manifest.contributes.commands as { command: string; enablement?: string }[];
  it('lets nothing be recorded in a folder that is not trusted', () => {
    for (const id of ['profileTest', 'profilePackage', 'profileTestItem', 'record', 'recordTarget', 'attach', 'recordMachine']) {
      assert.match(commands.find((c) => c.command === `sightline.${id}`)?.enablement ?? '', /^isWorkspaceTrusted && /, id);
    }
  });
  it('has the schema of launch targets', () => {
    assert.deepEqual(manifest.contributes.jsonValidation.map((v) => v.url), ['./schema/sightline.json']);
    assert.deepEqual(Object.keys(schema.properties.targets.items.properties), ['name', 'command', 'env', 'dir', 'tests', 'build']);
  });
});

describe('the server\'s program', () => {
  let dir: string;
  const program = (name: string): string => {
    const file = path.join(dir, name, 'sightline');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, '#!/bin/sh\n', { mode: 0o755 });
    return file;
  };
  beforeEach(() => { dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sightline-unit-')); });
  afterEach(() => fs.rmSync(dir, { recursive: true }));

  it('is the setting\'s, then PATH\'s, then the extension\'s', () => {
    const chosen = program('chosen'), onPath = program('path'), bundled = program('extension/bin');
    const env = { PATH: `relative:${path.join(dir, 'nothing')}:${path.dirname(onPath)}` }, extension = path.join(dir, 'extension');
    assert.deepEqual(findProgram(chosen, extension, env), { path: chosen, origin: 'setting' });
    assert.deepEqual(findProgram(path.dirname(chosen), extension, env), { path: chosen, origin: 'setting' });
    assert.deepEqual(findProgram('', extension, env), { path: onPath, origin: 'PATH' });
    assert.deepEqual(findProgram(' ', extension, { PATH: '' }), { path: bundled, origin: 'extension' });
  });
  it('is not another where the setting is wrong', () => {
    const bundled = program('extension/bin');
    fs.chmodSync(program('chosen'), 0o644);
    assert.throws(() => findProgram(path.join(dir, 'chosen', 'sightline'), path.dirname(path.dirname(bundled)), { PATH: '' }), /sightline\.server\.path names .*chosen/);
  });
  it('is asked for where there is none', () => {
    assert.throws(() => findProgram('', dir, { PATH: dir }), /on PATH, and none came with this extension/);
  });
  it('is named where its version does not fit', () => {
    const p = { path: '/usr/bin/sightline', origin: 'PATH' } as const;
    assert.equal(versionMismatch(p, 'v0.1.7', '0.1.0', ['a'], ['a']), '');
    assert.equal(versionMismatch(p, 'devel', '0.1.0', ['a'], ['a']), '');
    assert.equal(versionMismatch(p, 'v0.0.0-20261122-abcdef', '0.1.0', ['a'], ['a']), '');
    assert.match(versionMismatch(p, 'v0.3.0', '0.1.0', ['a'], ['a']), /version v0\.3\.0 \(\/usr\/bin\/sightline, which was found on PATH\).*0\.1\.0: they do not fit/);
    assert.match(versionMismatch(p, 'devel', '0.1.0', ['a'], ['a', 'b']), /does not know b\. Update it/);
  });
});

describe('marks', () => {
  const m = (...lines: number[]): Map<number, Mark> => new Map(lines.map((l) => [l, { text: `${l}`, step: 0 }]));
  const lines = (marks: ReadonlyMap<number, Mark>): number[] => [...marks.keys()].sort((a, b) => a - b);
  it('move with lines above them', () => {
    const r = moved(m(3, 8), [{ first: 1, last: 1, breaks: 2 }]);
    assert.deepEqual(lines(r.marks), [5, 10]);
    assert.equal(r.sure, true);
  });
  it('stay where an edit is within a line or below', () => {
    assert.deepEqual(lines(moved(m(3), [{ first: 3, last: 3, breaks: 0 }, { first: 9, last: 9, breaks: 4 }]).marks), [3]);
  });
  it('are unsure where their line was split, joined or deleted', () => {
    for (const e of [{ first: 3, last: 3, breaks: 1 }, { first: 2, last: 3, breaks: 0 }, { first: 3, last: 4, breaks: 0 }]) {
      assert.equal(moved(m(3), [e]).sure, false, JSON.stringify(e));
    }
  });
  it('take several edits of one change', () => {
    const r = moved(m(5, 20), [{ first: 1, last: 1, breaks: 1 }, { first: 10, last: 12, breaks: 0 }]);
    assert.deepEqual(lines(r.marks), [6, 19]);
  });
  it('are those of costs, or not', () => {
    const costs = [{ line: 1, text: '1', heat: 0.9 }, { line: 2, text: '', heat: 0 }, { line: 9, text: '9', heat: 0.1 }];
    const marks = marksOf(costs, 9);
    assert.deepEqual([...marks], [[1, { text: '1', step: 4 }]]);
    assert.ok(shows(marks, costs, 9));
    assert.ok(!shows(marks, costs, 10), 'one more');
    assert.ok(!shows(marks, [], 9), 'one less');
    assert.ok(!shows(marks, [{ line: 1, text: '2', heat: 0.9 }], 9), 'another text');
    assert.ok(!shows(marks, [{ line: 1, text: '1', heat: 0 }], 9), 'another step');
  });
  it('count line breaks of every kind once', () => {
    assert.equal(breaksIn('a\r\nb\nc\rd'), 3);
    assert.equal(breaksIn('𝄞é'), 0);
  });
  it('have steps of heat that rise', () => {
    let last = -1;
    for (let h = 0; h <= 1; h += 0.01) { assert.ok(stepOf(h) >= last); last = stepOf(h); }
    assert.equal(last, steps - 1);
  });
});

describe('a command line', () => {
  it('is split as a shell does', () => {
    assert.deepEqual(splitCommand(`./a  -x "b c" 'd "e' f\\ g "" "q\\"r"`), ['./a', '-x', 'b c', 'd "e', 'f g', '', 'q"r']);
    assert.deepEqual(splitCommand('  '), []);
    assert.throws(() => splitCommand('a "b'), /not closed/);
  });
});

describe('a flame graph', () => {
  // root → main → {a → b, c}, with d below c too narrow to see
  const box = (p: number, n: number, d: number, x: number, w: number) => ({ p, n, d, x, w, t: `${w}`, s: '', g: 0 });
  const g: FlameResult = {
    capture: '', title: '', text: '', depth: 4,
    names: ['root', 'prog!main.main', 'prog!example.com/x/y.(*T).a', 'prog!runtime.b', 'prog!c', 'kernel!d'],
    labels: ['root', 'main.main', 'y.(*T).a', 'runtime.b', 'c', 'd'], modules: ['', 'prog', 'prog', 'prog', '/usr/bin/prog', 'kernel'],
    locations: [null, null, null, null, null, null],
    boxes: [box(-1, 0, 0, 0, 1), box(0, 1, 1, 0, 0.9), box(1, 2, 2, 0, 0.5), box(1, 4, 2, 0.5, 0.4), box(2, 3, 3, 0.1, 0.3), box(3, 5, 3, 0.5, 0.0001)],
  };
  it('is laid out in rows', () => {
    const l = layout(g, 0, 1000);
    assert.deepEqual(l.rows, [0, 1, 2, 4, 5]);
    assert.deepEqual(l.rects.map((r) => [r.box, r.x, r.width]), [[0, 0, 1000], [1, 0, 900], [2, 0, 500], [3, 500, 400], [4, 100, 300]]);
  });
  it('zooms and keeps the callers above', () => {
    const l = layout(g, 3, 1000);
    assert.deepEqual(l.rects.map((r) => [r.box, Math.round(r.x), Math.round(r.width), r.dim]), [[0, 0, 1000, true], [1, 0, 1000, true], [3, 0, 1000, false]]);
    assert.equal(at(layout(g, 3, 1e6), 5, 3), 5, 'what was too narrow is there when zoomed');
  });
  it('knows what is under the mouse', () => {
    const l = layout(g, 0, 1000);
    assert.equal(at(l, 499, 2), 2);
    assert.equal(at(l, 500, 2), 3);
    assert.equal(at(l, 950, 1), -1);
    assert.equal(at(l, 50, 3), -1);
    assert.equal(at(l, 5, 99), -1);
  });
  it('finds by pattern, by plain text, and nothing by nothing', () => {
    assert.deepEqual(matching(g, matcher('MAIN|runtime\\.') ?? (() => false)), [4]); // a capital minds case
    assert.deepEqual(matching(g, matcher('main|runtime\\.') ?? (() => false)), [1, 4]);
    assert.deepEqual(matching(g, matcher('(*t)') ?? (() => false)), [2]);
    assert.equal(matcher('  '), undefined);
  });
  it('is walked by keys', () => {
    const c = childrenOf(g);
    assert.equal(step(g, c, 1, 'down'), 2);
    assert.equal(step(g, c, 2, 'right'), 3);
    assert.equal(step(g, c, 3, 'right'), 3);
    assert.equal(step(g, c, 3, 'up'), 1);
    assert.equal(step(g, c, 0, 'up'), 0);
  });
  it('knows a function by its name with and without the folders of its module', () => {
    assert.ok(isFunction('/tmp/x/a.test!b.com/c.F', 'a.test!b.com/c.F'));
    assert.ok(isFunction('b.com/c.F', 'a.test!b.com/c.F'));
    assert.ok(!isFunction('b.com/c.F', 'c.F'));
    assert.ok(!isFunction('a!F', 'b!F'));
  });
  it('groups by package, name space, module and kernel', () => {
    assert.equal(familyOf('prog!example.com/x/y.(*T).a', 'y.(*T).a', 'prog'), 'y');
    assert.equal(familyOf('m!a/b.F[c/d.E]', 'b.F[c/d.E]', 'm'), 'b');
    assert.equal(familyOf('std::vec::push', 'std::vec::push', '/lib/x.so'), 'std');
    assert.equal(familyOf('qsort', 'qsort', '/lib/libc.so.6'), 'libc.so.6');
    assert.equal(familyOf('kernel!do_sys', 'do_sys', 'kernel'), 'kernel');
    assert.equal(families(g).order[0], 'prog');
  });
});

describe('colours', () => {
  it('are read as themes and browsers write them', () => {
    assert.deepEqual(parse('#fff'), [255, 255, 255]);
    assert.deepEqual(parse(' #1f2430ff '), [31, 36, 48]);
    assert.deepEqual(parse('rgba(1, 2, 3, 0.5)'), [1, 2, 3]);
    assert.equal(parse('orange'), undefined);
    assert.deepEqual(mix([255, 0, 0], [0, 0, 255], 0.5), [128, 0, 128]);
  });
  it('are readable: text stands out from every box, dark and light', () => {
    const luminance = (c: string): number => {
      const [r = 0, g = 0, b = 0] = (parse(c) ?? [0, 0, 0]).map((v) => { const s = v / 255; return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const themes = [
      { '--vscode-editor-background': '#1f1f1f', '--vscode-editor-foreground': '#cccccc' },
      { '--vscode-editor-background': '#ffffff', '--vscode-editor-foreground': '#3b3b3b' },
    ] as Record<string, string>[];
    for (const t of themes) {
      const p = paletteOf((name) => t[name] ?? '');
      for (const fill of [p.own, p.rest, p.kernel, p.runtime, p.grew, p.shrank, p.none, ...p.others]) {
        const a = luminance(fill), b = luminance(p.text);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        assert.ok(contrast >= 3, `${fill} under ${p.text}: ${contrast.toFixed(2)}`);
      }
    }
  });
});

describe('values over time', () => {
  it('are those of the last minutes, and never less than nothing', () => {
    const values: number[] = [];
    for (let i = 0; i < most + 10; i++) keep(values, i);
    assert.equal(values.length, most);
    assert.equal(values[0], 10);
    keep(values, NaN);
    keep(values, -1);
    assert.deepEqual(values.slice(-2), [0, 0]);
  });
  it('of kinds are as long as each other, and stand one upon the other', () => {
    const kinds = new Map<string, number[]>();
    keepKinds(kinds, [{ name: 'Image', resident: 3 }, { name: 'Free', resident: 0 }]);
    keepKinds(kinds, [{ name: 'Image', resident: 4 }, { name: 'Heap', resident: 5 }]);
    keepKinds(kinds, [{ name: 'Heap', resident: 6 }]);
    assert.deepEqual([...kinds], [['Image', [3, 4, 0]], ['Heap', [0, 5, 6]]]);
    assert.deepEqual(stack([...kinds.values()]), [[3, 4, 0], [3, 9, 6]]);
    assert.deepEqual(stack([]), []);
  });
  it('end at the right edge, and the most is at the top', () => {
    const points = scale([0, 2, 4], 300, 100, 1);
    assert.deepEqual(points.map(([, y]) => y), [100, 50, 0]);
    assert.equal(points[2]?.[0], 300);
    assert.ok((points[0]?.[0] ?? 0) < (points[1]?.[0] ?? 0));
    assert.deepEqual(scale([], 300, 100, 1), []);
    assert.equal(scale([0.5], 300, 100, 1)[0]?.[1], 50);
    assert.ok(scale(Array.from({ length: most }, () => 1), 300, 100, 1).every(([x]) => x >= -3));
  });
});
