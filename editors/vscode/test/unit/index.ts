import { run as runMocha } from '../mocha';

export function run(): Promise<number> {
  return runMocha(() => { require('./suite'); }, 5000);
}
