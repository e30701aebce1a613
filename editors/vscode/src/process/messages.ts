import type { Location, ProcessResult } from '../protocol';

/** ToPage are the messages from the extension to the process page. */
export type ToPage =
  | { type: 'process'; process: ProcessResult }
  | { type: 'ended'; text: string };

/** FromPage are the messages from the process page to the extension. */
export type FromPage =
  | { type: 'ready' }
  | { type: 'open'; location: Location }
  | { type: 'state'; state: PageState }; // tests ask for it

/** PageState is what the page shows. */
export interface PageState { updates: number; title: string; facts: number; threads: number; files: number; leaks: number; lines: number; kinds: number; terms: number; regions: number; map: string; ended: string; theme: string }
