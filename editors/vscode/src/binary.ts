import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

/** Origin is where a server's program was found. */
export type Origin = 'setting' | 'PATH' | 'extension';

/** A Program is the server's program. */
export interface Program {
  path: string;
  origin: Origin;
}

/** originText says for a sentence which program is meant. */
export function originText(p: Program): string {
  switch (p.origin) {
    case 'setting': return `${p.path}, which the setting sightline.server.path names`;
    case 'PATH': return `${p.path}, which was found on PATH`;
    case 'extension': return 'the one that comes with this extension';
  }
}

const name = 'sightline';

/**
 * findProgram finds the server's program: the one that the setting names, else the one on PATH, else
 * the one that comes with the extension. A setting that names no program is an error, not a reason to
 * use another: a person who set it means it.
 */
export function findProgram(setting: string, extensionPath: string, env: NodeJS.ProcessEnv = process.env): Program {
  const chosen = setting.trim();
  if (chosen !== '') {
    const full = path.resolve(chosen.replace(/^~(?=\/|$)/, os.homedir()));
    for (const candidate of [full, path.join(full, name)]) {
      if (isProgram(candidate)) return { path: candidate, origin: 'setting' };
    }
    throw new Error(`The setting sightline.server.path names ${full}, which is no program that can be run. Correct it, or empty it to use the one that comes with the extension.`);
  }
  for (const folder of (env.PATH ?? '').split(path.delimiter)) {
    if (!path.isAbsolute(folder)) continue; // would depend on the working folder
    const candidate = path.join(folder, name);
    if (isProgram(candidate)) return { path: candidate, origin: 'PATH' };
  }
  const bundled = path.join(extensionPath, 'bin', name);
  if (isProgram(bundled)) return { path: bundled, origin: 'extension' };
  throw new Error('There is no program sightline on PATH, and none came with this extension. Install it, or name it in the setting sightline.server.path.');
}

function isProgram(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/**
 * versionMismatch is a sentence where server and extension do not fit together, else "". Development
 * builds have no comparable version; there, and everywhere, what the server says it can do counts.
 */
export function versionMismatch(program: Program, server: string, extension: string, offered: readonly string[], needed: readonly string[]): string {
  const missing = needed.filter((m) => !offered.includes(m));
  const remedy = program.origin === 'extension'
    ? 'Install the extension again.'
    : program.origin === 'setting' ? 'Update it, or empty the setting.' : 'Update it, or remove it from PATH to use the one that comes with the extension.';
  const what = `The Sightline server is version ${server || 'unknown'} (${originText(program)}), and the extension is version ${extension}`;
  const a = release(server), b = release(extension);
  if (a && b && (a[0] !== b[0] || a[1] !== b[1])) return `${what}: they do not fit together. ${remedy}`;
  if (missing.length > 0) return `${what}: the server does not know ${missing.join(', ')}. ${remedy}`;
  return '';
}

function release(v: string): [number, number] | undefined {
  const m = /^v?(\d+)\.(\d+)\.\d+(?:\+.*)?$/.exec(v); // "v0.0.0-2026…" is a build of some commit
  return m ? [Number(m[1]), Number(m[2])] : undefined;
}
