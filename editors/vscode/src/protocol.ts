// Code generated from lspserver/rpc/extension.go by go test ./cmd/sightline -run TestExtension -update; DO NOT EDIT.

// Our own methods. Those that read captures answer from what is stored and never wait for a recording; all
// can be cancelled.
/**
 * MethodLines asks for the costs of a document's lines, for editors that draw them by themselves:
 * LinesParams → LinesResult.
 */
export const MethodLines = "sightline/lines";
/** MethodCaptures asks for the stored captures, newest first: no parameters → CaptureInfo[]. */
export const MethodCaptures = "sightline/captures";
/**
 * MethodStacks asks for rows of a stack view: StacksParams → StacksResult. A tree is walked by asking for
 * the children of one row at a time.
 */
export const MethodStacks = "sightline/stacks";
/** MethodDiff is the same of the difference of two captures: DiffParams → StacksResult. */
export const MethodDiff = "sightline/diff";
/** MethodPresets asks for the filters that have a name: PresetsParams → Preset[]. */
export const MethodPresets = "sightline/presets";
/** MethodFlame asks for a flame graph: FlameParams → FlameResult. */
export const MethodFlame = "sightline/flame";
/** MethodHottest asks for the costliest lines or functions: HottestParams → HotSpot[]. */
export const MethodHottest = "sightline/hottest";
/**
 * MethodNeighbors asks who calls the function at a position and whom it calls: NeighborsParams →
 * NeighborsResult.
 */
export const MethodNeighbors = "sightline/neighbors";
/**
 * MethodProcesses asks for the processes that can be recorded, the busiest first: no parameters →
 * ProcessInfo[].
 */
export const MethodProcesses = "sightline/processes";
/**
 * MethodTargets asks for the launch targets of .sightline.json that can be recorded by name: TargetsParams
 * → TargetsResult.
 */
export const MethodTargets = "sightline/targets";
/**
 * MethodProcess asks what one process uses and has open now: ProcessParams → ProcessResult. What it used is
 * since the request before; a page asks every second while it can be seen, and what the server keeps for it
 * is dropped when nobody has asked for ten.
 */
export const MethodProcess = "sightline/process";
/** MethodStatus asks for what the server is doing: no parameters → StatusResult. */
export const MethodStatus = "sightline/status";
/** MethodDoctor asks what can be recorded here: no parameters → DoctorResult. */
export const MethodDoctor = "sightline/doctor";
/**
 * MethodChanged tells the client that numbers changed (a recording grew or ended, another capture or metric
 * is shown): ChangedParams, a notification from the server. A client that draws by itself asks again;
 * others have had a refresh request.
 */
export const MethodChanged = "sightline/changed";

// The views of StacksParams.
export const ViewByName = "by-name";
export const ViewCallTree = "call-tree";
/** tree of who calls Focus */
export const ViewCallers = "callers";
/** tree of what Focus calls */
export const ViewCallees = "callees";
/** one level of both, each row with its Side */
export const ViewCallerCallee = "caller-callee";
/** source lines, by self; with Focus those of that row */
export const ViewLines = "lines";
/** the functions of the source file that Focus names */
export const ViewFunctions = "functions";
/** a row for each thread with its Weights over time */
export const ViewTimeline = "timeline";
/** one row, of Focus or of everything, with its Weights over time */
export const ViewHistogram = "histogram";

/** LinesParams names a document. */
export interface LinesParams {
  textDocument: DocumentID;
}

/** A DocumentID names a document by its URI, as protocol.TextDocumentIdentifier does. */
export interface DocumentID {
  uri: string;
}

/** LinesResult is the costs of one document, as its text is now. */
export interface LinesResult {
  /** id; "" while none touches the document */
  capture: string;
  /** whose numbers these are: "cpu" */
  kind: string;
  /** what the capture measured; sightline.setMetric changes between them */
  kinds: KindInfo[];
  /** "ns" */
  unit: string;
  /** weight of the whole capture, what 100 % is */
  total: number;
  /** lines with a cost that were changed since and have lost it */
  stale: number;
  /** "profiled 3 min ago, 2 lines changed since"; "" while none touches the document */
  note: string;
  /** ascending */
  lines: LineCost[];
}

/** A KindInfo is one thing that a capture measured. */
export interface KindInfo {
  /** "alloc" */
  kind: string;
  /** for people: "Allocated memory" */
  text: string;
}

/** A LineCost is the cost of one line. */
export interface LineCost {
  /** 0-based, in the present text */
  line: number;
  /** in LinesResult.Unit */
  self: number;
  /** in LinesResult.Unit */
  total: number;
  /** samples in Total */
  count: number;
  /** 0 to 1: share of the hottest line of the document */
  heat: number;
  /** as the inlay hint words it; "" where the line is below the threshold */
  text: string;
}

/** CaptureInfo is one stored capture. */
export interface CaptureInfo {
  id: string;
  /** as a person names it: "go test ./fib" */
  target: string;
  /** RFC 3339 */
  started: string;
  milliseconds: number;
  samples: number;
  pinned: boolean;
  interrupted: boolean;
  /** the one that was opened by hand */
  shown: boolean;
  /** the one that others are compared with */
  baseline: boolean;
  /** a person's words */
  note: string;
  /** of its first series: "cpu" */
  kind: string;
  /** "3 min ago · 1.2 s · 1.1k samples" */
  text: string;
}

/** ChangedParams says why numbers changed, or how a recording goes. */
export interface ChangedParams extends StatusResult {
  /** id of the capture shown; "" for none */
  capture: string;
}

/** StatusResult is what the server is doing. */
export interface StatusResult {
  /** more will come */
  recording: boolean;
  /** "building", "recording", "symbolizing", "storing"; "" when idle */
  phase: string;
  /** what is recorded: "go test ./fib"; "" */
  target: string;
  /** since the target began to run */
  milliseconds: number;
  /** so far, while recording */
  samples: number;
  /** for a status line: "3.2 s · 1.2k samples"; "" when idle */
  text: string;
  /** of the server */
  version: string;
  /** path of its log file; "" where it has none but standard error */
  log: string;
}

/** A SourceRef names what stacks are taken from: a stored capture, or a file that an import reads. */
export interface SourceRef {
  /** id, its beginning, "@" for the newest, "@2"; "" with File "" is what is shown, else the newest */
  capture?: string;
  /** workspace folder whose store has it; "" looks in all */
  root?: string;
  /** path of a file of any format that import reads */
  file?: string;
  /** which series; "" is the first */
  kind?: string;
}

/** A StackFilter is the text of a stack viewer's fields, all optional. */
export interface StackFilter {
  /** name of a Preset, whose fields hold where those below are empty */
  preset?: string;
  /** group patterns */
  group?: string;
  /** fold patterns */
  fold?: string;
  /** fold what is below this share of the whole */
  foldPercent?: number;
  /** patterns that stacks must have, all of them */
  include?: string;
  /** patterns that stacks must not have */
  exclude?: string;
  /** ms since the capture began */
  start?: string;
  end?: string;
  /** begin stacks with their process and thread */
  tasks?: boolean;
  /** "interval" or "amount"; "" as the kind has it */
  weights?: string;
}

/** StacksParams asks for rows of one view. */
export interface StacksParams extends SourceRef {
  filter: StackFilter;
  view: string;
  /** name of a row, for views about one function */
  focus?: string;
  /** keep rows that match this pattern; not in trees */
  find?: string;
  /** of a tree: the row whose children are asked for; "" is the root */
  node?: string;
  offset?: number;
  /** at most so many rows; 0 is 200 */
  limit?: number;
  /** Buckets is how many parts of time the Weights of timeline and histogram have; 0 is 32. */
  buckets?: number;
}

/** DiffParams asks for rows of the difference after − before. */
export interface DiffParams extends StacksParams {
  before: SourceRef;
  /**
   * Overweight asks for the overweight report instead of View: which functions grew more than the whole
   * did.
   */
  overweight?: boolean;
}

/** StacksResult is some rows of a view. */
export interface StacksResult {
  /** id; "" for a file */
  capture: string;
  /** "go test ./fib · 3 min ago" */
  title: string;
  /** what Rows are: "call tree", "callers of fib.Fib" */
  about: string;
  /** what is filtered, in words; "" for nothing */
  filter: string;
  /** of weights */
  unit: string;
  /** weight of all that the filter lets through */
  total: number;
  /** the same in words: "1.2 s, 1.1k samples" */
  text: string;
  rows: StackRow[];
  /** rows after these */
  more: number;
  /** the filter with its preset filled in */
  fields: StackFilter;
  /** Start and Width are of the first of a row's Weights and of each, in ms. */
  start?: number;
  width?: number;
}

/** A StackRow is a function, group or call path and its cost. */
export interface StackRow {
  /** names the row of a tree in StacksParams.Node; "" in other views */
  node: string;
  /** as Focus and patterns know it */
  name: string;
  /** Name for narrow places: without folders of the module */
  label: string;
  /** of caller-callee: "caller", "focus", "callee" */
  side?: string;
  total: number;
  self: number;
  totalCount: number;
  selfCount: number;
  /** of total, 0 to 1; signed in a difference */
  share: number;
  /** "34.1% · 1.2 s"; in a difference "+340 ms (+12%)" */
  text: string;
  /** the same of self; "" where there is none */
  selfText: string;
  /** a character for each 32nd of the time */
  when: string;
  which?: string;
  /** ms since the capture began; absent where not known */
  first?: number;
  last?: number;
  /** part of Self that was folded in */
  foldWeight?: number;
  foldCount?: number;
  /** over time */
  weights?: number[];
  /** a tree's row that has children */
  children: boolean;
  /** where the function is now */
  location?: Location;
  /** a few lines of plain text */
  tooltip: string;
}

/** A Location is a place in a file as it is now. */
export interface Location {
  uri: string;
  /** 0-based */
  line: number;
}

/** PresetsParams asks for the presets that hold for a folder. */
export interface PresetsParams {
  root?: string;
}

/** A Preset is a filter with a name. */
export interface Preset {
  /** "just my code" */
  name: string;
  /** one line that says what it does */
  detail: string;
  /** comes with the program; others were saved by a person */
  stock: boolean;
  filter: StackFilter;
  /** what a viewer begins with */
  default: boolean;
}

/** FlameParams asks for a flame graph. */
export interface FlameParams extends SourceRef {
  filter: StackFilter;
  /** draw the difference to this */
  before?: SourceRef;
  /** only the callees of one function */
  focus?: string;
  /** leave out boxes narrower than this share; 0 is 0.0005 */
  least?: number;
  /** answer the picture itself */
  svg?: boolean;
}

/** FlameResult is a flame graph as boxes, or as a picture. */
export interface FlameResult {
  capture: string;
  title: string;
  /** "1.2 s, 1.1k samples" */
  text: string;
  depth: number;
  names: string[];
  /** of Names, for narrow places: drawn as they are */
  labels: string[];
  /** Modules of Names, for colours; "" where not known. */
  modules: string[];
  /** Locations of Names; null where a function has none. */
  locations: (Location | null)[];
  /** parents before children */
  boxes: FlameBox[];
  svg?: string;
}

/** A FlameBox is one call path. */
export interface FlameBox {
  /** index of the caller's box; -1 for the root */
  p: number;
  /** index of Names */
  n: number;
  /** 0 for the root */
  d: number;
  /** left edge, 0 to 1 */
  x: number;
  /** 0 to 1 */
  w: number;
  /** "34.1% · 1.2 s" */
  t: string;
  /** "1.1% · 40 ms"; "" */
  s: string;
  /** of a difference: 1 grew, -1 shrank; else 0 */
  g: number;
}

/** HottestParams asks for the costliest places. */
export interface HottestParams extends SourceRef {
  /** "lines" or "functions" */
  what: string;
  /** 0 is 50 */
  limit?: number;
  /** also outside the workspace */
  all?: boolean;
}

/** A HotSpot is a line or a function and its cost. */
export interface HotSpot {
  /** the function, or the trimmed text of the line */
  label: string;
  /** "fib.go:12" */
  detail: string;
  /** "34.1% · 1.2 s" */
  text: string;
  self: number;
  total: number;
  count: number;
  /** 0 to 1: share of the hottest */
  heat: number;
  location?: Location;
}

/** NeighborsParams names a function by a position in it. */
export interface NeighborsParams {
  textDocument: DocumentID;
  /** 0-based */
  line: number;
}

/** NeighborsResult is a function with its callers and callees. */
export interface NeighborsResult {
  capture: string;
  /** "" where no function with a cost is there */
  name: string;
  /** Name for narrow places */
  label: string;
  /** "34.1% · 1.2 s in total, 1.1% · 40 ms itself" */
  text: string;
  callers: StackRow[];
  callees: StackRow[];
}

/** ProcessInfo is a running process. */
export interface ProcessInfo {
  pid: number;
  name: string;
  /** with its arguments */
  command: string;
  user: string;
  /** "12.3%" of one CPU, over the last moments */
  cpu: string;
  /** resident: "12.0 MiB" */
  memory: string;
  /** a program that Go built */
  go: boolean;
  /** why it cannot be recorded; "" where it can */
  refused: string;
}

/** TargetsParams says where launch targets are looked for. */
export interface TargetsParams {
  /**
   * URI is of a file or folder: targets of the .sightline.json files in its folder and above it, up to the
   * workspace folder, come first. "" is only those of the workspace folders.
   */
  uri?: string;
}

/** TargetsResult is the launch targets there are. */
export interface TargetsResult {
  targets: TargetInfo[];
  /**
   * Problem says what is wrong with a .sightline.json, in one sentence; "" for nothing. The targets are
   * good all the same.
   */
  problem: string;
}

/** TargetInfo is one launch target. Two files may have targets of one name. */
export interface TargetInfo {
  name: string;
  /** the command as people write it, cut where it is long */
  text: string;
  /** where it comes from and what it runs in: ".sightline.json · in build" */
  detail: string;
  location: Location;
}

/** ProcessParams names a process. */
export interface ProcessParams {
  pid: number;
  /** ProcessResult.Start of the request before: another process of that number is an error */
  start?: string;
  /** Leaks has the server watch which descriptors grow, and which lines opened those that are open. */
  leaks?: boolean;
  /** tell where its memory is */
  map?: boolean;
  /** at most so many threads, files and regions; 0 is 500 */
  limit?: number;
}

/** ProcessResult is one process as it is now. */
export interface ProcessResult {
  pid: number;
  /** tells it from a later process of the same number */
  start: string;
  name: string;
  /** with its arguments */
  command: string;
  /** "server (4711) · root · sleeping · for 12 min" */
  title: string;
  /** what may not be seen; "" */
  note: string;
  /** share of one processor since the request before */
  cpu: number;
  /** resident bytes */
  memory: number;
  facts: ProcessFact[];
  /** the busiest first */
  threads: ProcessThread[];
  /** after these */
  moreThreads: number;
  /** descriptors, by number */
  files: ProcessFile[];
  moreFiles: number;
  /** groups of descriptors that grew, the most first */
  leaks: ProcessLeak[];
  /**
   * Map is where its memory is; left out where nobody asked for it. Where reading it takes long it is that
   * of an earlier answer, as its Time says.
   */
  map?: ProcessMap;
}

/** ProcessMap is where the memory of a process is. */
export interface ProcessMap {
  /** milliseconds since 1970 when it was read */
  time: number;
  /** bytes, the sum over Kinds */
  resident: number;
  /** "32.2 MiB resident · 1.2 GiB reserved · 27 regions" */
  text: string;
  /** what a reader must know; "" */
  note: string;
  /** of Kinds' Cells */
  columns: ProcessColumn[];
  /** those there are, in the order of tables */
  kinds: ProcessKind[];
  /** what holds the resident memory of a Go program; of others none */
  terms: ProcessTerm[];
  /** what Terms sum up to, in a sentence; "" */
  sum: string;
  /** of goroutines, those with the most bytes first */
  stacks: ProcessStacks[];
  /** those with the most resident memory first */
  regions: ProcessRegion[];
  /** regions after these */
  more: number;
}

/** A ProcessColumn is a column of numbers. */
export interface ProcessColumn {
  name: string;
  /** what it means, in a sentence */
  detail: string;
}

/** A ProcessKind is the memory of one kind. */
export interface ProcessKind {
  /** "Managed heap" */
  name: string;
  /** what it is, in a sentence */
  detail: string;
  /** bytes; of Free and Page table 0 */
  resident: number;
  /** bytes that are reserved */
  size: number;
  /** of all resident memory: "54.1%"; "" where it has no part in that */
  share: string;
  /** by column; "" for nothing */
  cells: string[];
}

/** A ProcessTerm is a part of the resident memory by what holds it. */
export interface ProcessTerm {
  /** "free slots" */
  name: string;
  /** resident */
  bytes: number;
  /** "7.6 MiB" */
  text: string;
  /** "23.5%" */
  share: string;
  /** how many: "184k"; "" */
  number: string;
  /** what to do about it, in a sentence */
  advice: string;
  /** behind it, the most bytes first */
  lines: ProcessLine[];
}

/** ProcessStacks are the stacks of goroutines that one line started. */
export interface ProcessStacks {
  /** of goroutines */
  number: number;
  /** of all */
  bytes: number;
  /** of all, in words: "56.2 MiB" */
  size: string;
  /** of one, in words: "64.0 KiB each" */
  each: string;
  line: ProcessLine;
}

/** A ProcessRegion is addresses that were reserved for one purpose. */
export interface ProcessRegion {
  /** hexadecimal */
  start: string;
  kind: string;
  /** "stack of thread 71 (worker)", "/lib/libc.so.6" */
  name: string;
  protection: string;
  /** "64.0 MiB" */
  size: string;
  resident: string;
  /** that allocated what is in it, as far as is known */
  lines: ProcessLine[];
}

/** A ProcessFact is one number of a process. */
export interface ProcessFact {
  /** "resident" */
  name: string;
  /** "12.0 MiB" */
  text: string;
  /** what it means, in a sentence */
  detail: string;
}

/** A ProcessThread is one thread. */
export interface ProcessThread {
  tid: number;
  name: string;
  /** "sleeping" */
  state: string;
  /** of one processor */
  share: number;
  /** the same in words: "12.3%" */
  text: string;
  /** the kernel's function that it sleeps in; "" */
  wait: string;
}

/** A ProcessFile is one open descriptor. */
export interface ProcessFile {
  /** with its mode: "3u" */
  fd: string;
  /** as lsof has it: "REG" */
  type: string;
  name: string;
}

/** A ProcessLeak is descriptors that are alike and have grown since they are watched. */
export interface ProcessLeak {
  type: string;
  /** with "*" for what differs: "/tmp/upload-*.part" */
  name: string;
  /** "81 open, +57 in 3.0 s" */
  text: string;
  open: number;
  grew: number;
  /** that opened those that are open */
  lines: ProcessLine[];
}

/** A ProcessLine is a source line that opened descriptors, allocated memory or started goroutines. */
export interface ProcessLine {
  /** "62 by main.leak, main.go:17" */
  text: string;
  /** of descriptors that are open, of objects, of goroutines */
  count: number;
  location?: Location;
  /** the file was changed since the process started */
  stale: boolean;
}

/** DoctorResult says what can be recorded here. */
export interface DoctorResult {
  /** programs of one's own can be recorded */
  healthy: boolean;
  /** the report, as the command line prints it */
  text: string;
  engines: EngineInfo[];
}

/** EngineInfo is one thing that an engine may do. */
export interface EngineInfo {
  engine: string;
  what: string;
  works: boolean;
  /** what was tried, and how it went */
  detail: string;
  /** why not; "" */
  why: string;
  /** the command to run; "" */
  remedy: string;
}
