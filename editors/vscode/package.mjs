// Puts the extension and the server's program into dist/sightline-linux-x64.vsix.
//
//   node package.mjs [OUT.vsix]
//
// The program is built from the checkout around this folder, or is the one that SIGHTLINE_BINARY names.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const here = import.meta.dirname;
const root = path.join(here, '..', '..');
const out = path.resolve(process.argv[2] ?? path.join(here, 'dist', 'sightline-linux-x64.vsix'));
const { version } = JSON.parse(fs.readFileSync(path.join(here, 'package.json'), 'utf8'));
const run = (program, args, options = {}) => execFileSync(program, args, { cwd: here, stdio: ['ignore', 'ignore', 'inherit'], ...options });

fs.mkdirSync(path.join(here, 'bin'), { recursive: true });
const binary = path.join(here, 'bin', 'sightline');
// What `sightline doctor --fix` installs; without capabilities it does nothing.
const capture = path.join(here, 'bin', 'sightline-capture');
const build = (to, flags, name) => run('go', ['build', '-trimpath', '-ldflags', flags, '-o', to, `./cmd/${name}`],
  { cwd: root, env: { ...process.env, CGO_ENABLED: '0', GOOS: 'linux', GOARCH: 'amd64' } });
if (process.env.SIGHTLINE_BINARY) {
  fs.copyFileSync(process.env.SIGHTLINE_BINARY, binary);
} else {
  build(binary, `-s -w -X main.release=v${version}`, 'sightline');
}
build(capture, '-s -w', 'sightline-capture');
for (const file of [binary, capture]) fs.chmodSync(file, 0o755);
fs.copyFileSync(path.join(root, 'LICENSE'), path.join(here, 'LICENSE'));
fs.mkdirSync(path.dirname(out), { recursive: true });
run(process.execPath, [path.join(here, 'node_modules', '@vscode', 'vsce', 'vsce'), 'package', '--no-dependencies', '--target', 'linux-x64', '--out', out]);
console.log(`${path.relative(process.cwd(), out)}: ${(fs.statSync(out).size / 1e6).toFixed(1)} MB`);
