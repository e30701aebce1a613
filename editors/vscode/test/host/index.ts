import { run as runMocha } from '../mocha';

export async function run(): Promise<void> {
  const failures = await runMocha(() => { require('./suite'); require('./servers'); }, 180_000);
  if (failures > 0) throw new Error(`${failures} tests failed`);
}
