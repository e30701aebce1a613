import type { FlameResult, Location } from '../protocol';

/** ToView are the messages from the extension to the flame graph. */
export type ToView =
  | { type: 'graph'; graph: FlameResult; diff: boolean }
  | { type: 'title'; text: string } // the graph's, which ages
  | { type: 'error'; text: string }
  | { type: 'find'; name: string; zoom: boolean } // show the boxes of a function
  | { type: 'own'; prefixes: string[] }; // URIs of the workspace's folders

/** FromView are the messages from the flame graph to the extension. */
export type FromView =
  | { type: 'ready' }
  | { type: 'open'; location: Location }
  | { type: 'save' }
  | { type: 'copy'; text: string }
  | { type: 'state'; state: ViewState }; // tests ask for it

/** ViewState is what the flame graph shows. */
export interface ViewState { boxes: number; zoomed: string; selected: string; matches: number; theme: string }
