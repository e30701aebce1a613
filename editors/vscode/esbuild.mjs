// Bundles the extension and its webview into dist/: each becomes one file, so that the package
// carries no modules.
import { build } from 'esbuild';

const production = process.argv.includes('--production');
const shared = { bundle: true, minify: production, sourcemap: production ? false : 'linked', logLevel: 'warning', legalComments: 'none' };

await Promise.all([
  build({ ...shared, entryPoints: ['src/extension.ts'], outfile: 'dist/extension.js', platform: 'node', format: 'cjs', target: 'node20', external: ['vscode'] }),
  build({ ...shared, entryPoints: ['webview/process.ts'], outfile: 'dist/process.js', platform: 'browser', format: 'iife', target: 'es2022' }),
  build({ ...shared, entryPoints: ['webview/flame.ts'], outfile: 'dist/flame.js', platform: 'browser', format: 'iife', target: 'es2022' }),
]);
