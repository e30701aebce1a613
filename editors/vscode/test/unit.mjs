import path from 'node:path';
import { createRequire } from 'node:module';
import { out } from './bed.mjs';

process.exit(await createRequire(import.meta.url)(path.join(out, 'unit.js')).run() ? 1 : 0);
