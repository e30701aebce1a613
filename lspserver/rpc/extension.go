package rpc

// This file is the one place where methods beyond the Language Server Protocol are declared. The
// plugins mirror it: one TypeScript and one Lua file.

// ExtensionPrefix begins the name of each of our own methods.
const ExtensionPrefix = "sightline/"

// Our own methods. Those that read captures answer from what is stored and never wait for a
// recording; all can be cancelled.
const (
	// MethodLines asks for the costs of a document's lines, for editors that draw them by
	// themselves: LinesParams → LinesResult.
	MethodLines = ExtensionPrefix + "lines"
	// MethodCaptures asks for the stored captures, newest first: no parameters → []CaptureInfo.
	MethodCaptures = ExtensionPrefix + "captures"
	// MethodStacks asks for rows of a stack view: StacksParams → StacksResult. A tree is walked by
	// asking for the children of one row at a time.
	MethodStacks = ExtensionPrefix + "stacks"
	// MethodDiff is the same of the difference of two captures: DiffParams → StacksResult.
	MethodDiff = ExtensionPrefix + "diff"
	// MethodPresets asks for the filters that have a name: PresetsParams → []Preset.
	MethodPresets = ExtensionPrefix + "presets"
	// MethodFlame asks for a flame graph: FlameParams → FlameResult.
	MethodFlame = ExtensionPrefix + "flame"
	// MethodHottest asks for the costliest lines or functions: HottestParams → []HotSpot.
	MethodHottest = ExtensionPrefix + "hottest"
	// MethodNeighbors asks who calls the function at a position and whom it calls: NeighborsParams →
	// NeighborsResult.
	MethodNeighbors = ExtensionPrefix + "neighbors"
	// MethodProcesses asks for the processes that can be recorded, the busiest first: no parameters →
	// []ProcessInfo.
	MethodProcesses = ExtensionPrefix + "processes"
	// MethodTargets asks for the launch targets of .sightline.json that can be recorded by name:
	// TargetsParams → TargetsResult.
	MethodTargets = ExtensionPrefix + "targets"
	// MethodProcess asks what one process uses and has open now: ProcessParams → ProcessResult. What it used
	// is since the request before; a page asks every second while it can be seen, and what the server keeps
	// for it is dropped when nobody has asked for ten.
	MethodProcess = ExtensionPrefix + "process"
	// MethodStatus asks for what the server is doing: no parameters → StatusResult.
	MethodStatus = ExtensionPrefix + "status"
	// MethodDoctor asks what can be recorded here: no parameters → DoctorResult.
	MethodDoctor = ExtensionPrefix + "doctor"
	// MethodChanged tells the client that numbers changed (a recording grew or ended, another
	// capture or metric is shown): ChangedParams, a notification from the server. A client that draws
	// by itself asks again; others have had a refresh request.
	MethodChanged = ExtensionPrefix + "changed"
)

// LinesParams names a document.
type LinesParams struct {
	TextDocument DocumentID `json:"textDocument"`
}

// A DocumentID names a document by its URI, as protocol.TextDocumentIdentifier does.
type DocumentID struct {
	URI string `json:"uri"`
}

// LinesResult is the costs of one document, as its text is now.
type LinesResult struct {
	Capture string     `json:"capture"` // id; "" while none touches the document
	Kind    string     `json:"kind"`    // whose numbers these are: "cpu"
	Kinds   []KindInfo `json:"kinds"`   // what the capture measured; sightline.setMetric changes between them
	Unit    string     `json:"unit"`    // "ns"
	Total   int64      `json:"total"`   // weight of the whole capture, what 100 % is
	Stale   int        `json:"stale"`   // lines with a cost that were changed since and have lost it
	Note    string     `json:"note"`    // "profiled 3 min ago, 2 lines changed since"; "" while none touches the document
	Lines   []LineCost `json:"lines"`   // ascending
}

// A KindInfo is one thing that a capture measured.
type KindInfo struct {
	Kind string `json:"kind"` // "alloc"
	Text string `json:"text"` // for people: "Allocated memory"
}

// A LineCost is the cost of one line.
type LineCost struct {
	Line  int     `json:"line"`  // 0-based, in the present text
	Self  int64   `json:"self"`  // in LinesResult.Unit
	Total int64   `json:"total"` // in LinesResult.Unit
	Count int64   `json:"count"` // samples in Total
	Heat  float64 `json:"heat"`  // 0 to 1: share of the hottest line of the document
	Text  string  `json:"text"`  // as the inlay hint words it; "" where the line is below the threshold
}

// CaptureInfo is one stored capture.
type CaptureInfo struct {
	ID           string `json:"id"`
	Target       string `json:"target"`  // as a person names it: "go test ./fib"
	Started      string `json:"started"` // RFC 3339
	Milliseconds int64  `json:"milliseconds"`
	Samples      int64  `json:"samples"`
	Pinned       bool   `json:"pinned"`
	Interrupted  bool   `json:"interrupted"`
	Shown        bool   `json:"shown"`    // the one that was opened by hand
	Baseline     bool   `json:"baseline"` // the one that others are compared with
	Note         string `json:"note"`     // a person's words
	Kind         string `json:"kind"`     // of its first series: "cpu"
	Text         string `json:"text"`     // "3 min ago · 1.2 s · 1.1k samples"
}

// ChangedParams says why numbers changed, or how a recording goes.
type ChangedParams struct {
	Capture string `json:"capture"` // id of the capture shown; "" for none
	StatusResult
}

// StatusResult is what the server is doing.
type StatusResult struct {
	Recording    bool   `json:"recording"`    // more will come
	Phase        string `json:"phase"`        // "building", "recording", "symbolizing", "storing"; "" when idle
	Target       string `json:"target"`       // what is recorded: "go test ./fib"; ""
	Milliseconds int64  `json:"milliseconds"` // since the target began to run
	Samples      int    `json:"samples"`      // so far, while recording
	Text         string `json:"text"`         // for a status line: "3.2 s · 1.2k samples"; "" when idle
	Version      string `json:"version"`      // of the server
	Log          string `json:"log"`          // path of its log file; "" where it has none but standard error
}

// A SourceRef names what stacks are taken from: a stored capture, or a file that an import reads.
type SourceRef struct {
	Capture string `json:"capture,omitempty"` // id, its beginning, "@" for the newest, "@2"; "" with File "" is what is shown, else the newest
	Root    string `json:"root,omitempty"`    // workspace folder whose store has it; "" looks in all
	File    string `json:"file,omitempty"`    // path of a file of any format that import reads
	Kind    string `json:"kind,omitempty"`    // which series; "" is the first
}

// A StackFilter is the text of a stack viewer's fields, all optional.
type StackFilter struct {
	Preset      string  `json:"preset,omitempty"`      // name of a Preset, whose fields hold where those below are empty
	Group       string  `json:"group,omitempty"`       // group patterns
	Fold        string  `json:"fold,omitempty"`        // fold patterns
	FoldPercent float64 `json:"foldPercent,omitempty"` // fold what is below this share of the whole
	Include     string  `json:"include,omitempty"`     // patterns that stacks must have, all of them
	Exclude     string  `json:"exclude,omitempty"`     // patterns that stacks must not have
	Start       string  `json:"start,omitempty"`       // ms since the capture began
	End         string  `json:"end,omitempty"`
	Tasks       bool    `json:"tasks,omitempty"`   // begin stacks with their process and thread
	Weights     string  `json:"weights,omitempty"` // "interval" or "amount"; "" as the kind has it
}

// The views of StacksParams.
const (
	ViewByName       = "by-name"
	ViewCallTree     = "call-tree"
	ViewCallers      = "callers"       // tree of who calls Focus
	ViewCallees      = "callees"       // tree of what Focus calls
	ViewCallerCallee = "caller-callee" // one level of both, each row with its Side
	ViewLines        = "lines"         // source lines, by self; with Focus those of that row
	ViewFunctions    = "functions"     // the functions of the source file that Focus names
	ViewTimeline     = "timeline"      // a row for each thread with its Weights over time
	ViewHistogram    = "histogram"     // one row, of Focus or of everything, with its Weights over time
)

// StacksParams asks for rows of one view.
type StacksParams struct {
	SourceRef
	Filter StackFilter `json:"filter"`
	View   string      `json:"view"`
	Focus  string      `json:"focus,omitempty"` // name of a row, for views about one function
	Find   string      `json:"find,omitempty"`  // keep rows that match this pattern; not in trees
	Node   string      `json:"node,omitempty"`  // of a tree: the row whose children are asked for; "" is the root
	Offset int         `json:"offset,omitempty"`
	Limit  int         `json:"limit,omitempty"` // at most so many rows; 0 is 200
	// Buckets is how many parts of time the Weights of timeline and histogram have; 0 is 32.
	Buckets int `json:"buckets,omitempty"`
}

// DiffParams asks for rows of the difference after − before.
type DiffParams struct {
	StacksParams           // after
	Before       SourceRef `json:"before"`
	// Overweight asks for the overweight report instead of View: which functions grew more than the
	// whole did.
	Overweight bool `json:"overweight,omitempty"`
}

// StacksResult is some rows of a view.
type StacksResult struct {
	Capture string      `json:"capture"` // id; "" for a file
	Title   string      `json:"title"`   // "go test ./fib · 3 min ago"
	About   string      `json:"about"`   // what Rows are: "call tree", "callers of fib.Fib"
	Filter  string      `json:"filter"`  // what is filtered, in words; "" for nothing
	Unit    string      `json:"unit"`    // of weights
	Total   float64     `json:"total"`   // weight of all that the filter lets through
	Text    string      `json:"text"`    // the same in words: "1.2 s, 1.1k samples"
	Rows    []StackRow  `json:"rows"`
	More    int         `json:"more"`   // rows after these
	Fields  StackFilter `json:"fields"` // the filter with its preset filled in
	// Start and Width are of the first of a row's Weights and of each, in ms.
	Start float64 `json:"start,omitempty"`
	Width float64 `json:"width,omitempty"`
}

// A StackRow is a function, group or call path and its cost.
type StackRow struct {
	Node       string    `json:"node"`           // names the row of a tree in StacksParams.Node; "" in other views
	Name       string    `json:"name"`           // as Focus and patterns know it
	Label      string    `json:"label"`          // Name for narrow places: without folders of the module
	Side       string    `json:"side,omitempty"` // of caller-callee: "caller", "focus", "callee"
	Total      float64   `json:"total"`
	Self       float64   `json:"self"`
	TotalCount float64   `json:"totalCount"`
	SelfCount  float64   `json:"selfCount"`
	Share      float64   `json:"share"`    // of total, 0 to 1; signed in a difference
	Text       string    `json:"text"`     // "34.1% · 1.2 s"; in a difference "+340 ms (+12%)"
	SelfText   string    `json:"selfText"` // the same of self; "" where there is none
	When       string    `json:"when"`     // a character for each 32nd of the time
	Which      string    `json:"which,omitempty"`
	First      *float64  `json:"first,omitempty"` // ms since the capture began; absent where not known
	Last       *float64  `json:"last,omitempty"`
	FoldWeight float64   `json:"foldWeight,omitempty"` // part of Self that was folded in
	FoldCount  float64   `json:"foldCount,omitempty"`
	Weights    []float64 `json:"weights,omitempty"`  // over time
	Children   bool      `json:"children"`           // a tree's row that has children
	Location   *Location `json:"location,omitempty"` // where the function is now
	Tooltip    string    `json:"tooltip"`            // a few lines of plain text
}

// A Location is a place in a file as it is now.
type Location struct {
	URI  string `json:"uri"`
	Line int    `json:"line"` // 0-based
}

// PresetsParams asks for the presets that hold for a folder.
type PresetsParams struct {
	Root string `json:"root,omitempty"`
}

// A Preset is a filter with a name.
type Preset struct {
	Name    string      `json:"name"`   // "just my code"
	Detail  string      `json:"detail"` // one line that says what it does
	Stock   bool        `json:"stock"`  // comes with the program; others were saved by a person
	Filter  StackFilter `json:"filter"`
	Default bool        `json:"default"` // what a viewer begins with
}

// FlameParams asks for a flame graph.
type FlameParams struct {
	SourceRef
	Filter StackFilter `json:"filter"`
	Before *SourceRef  `json:"before,omitempty"` // draw the difference to this
	Focus  string      `json:"focus,omitempty"`  // only the callees of one function
	Least  float64     `json:"least,omitempty"`  // leave out boxes narrower than this share; 0 is 0.0005
	SVG    bool        `json:"svg,omitempty"`    // answer the picture itself
}

// FlameResult is a flame graph as boxes, or as a picture.
type FlameResult struct {
	Capture string   `json:"capture"`
	Title   string   `json:"title"`
	Text    string   `json:"text"` // "1.2 s, 1.1k samples"
	Depth   int      `json:"depth"`
	Names   []string `json:"names"`
	Labels  []string `json:"labels"` // of Names, for narrow places: drawn as they are
	// Modules of Names, for colours; "" where not known.
	Modules []string `json:"modules"`
	// Locations of Names; null where a function has none.
	Locations []*Location `json:"locations"`
	Boxes     []FlameBox  `json:"boxes"` // parents before children
	SVG       string      `json:"svg,omitempty"`
}

// A FlameBox is one call path.
type FlameBox struct {
	Parent int     `json:"p"` // index of the caller's box; -1 for the root
	Name   int     `json:"n"` // index of Names
	Depth  int     `json:"d"` // 0 for the root
	X      float64 `json:"x"` // left edge, 0 to 1
	Width  float64 `json:"w"` // 0 to 1
	Text   string  `json:"t"` // "34.1% · 1.2 s"
	Self   string  `json:"s"` // "1.1% · 40 ms"; ""
	Sign   int     `json:"g"` // of a difference: 1 grew, -1 shrank; else 0
}

// HottestParams asks for the costliest places.
type HottestParams struct {
	SourceRef
	What  string `json:"what"`            // "lines" or "functions"
	Limit int    `json:"limit,omitempty"` // 0 is 50
	All   bool   `json:"all,omitempty"`   // also outside the workspace
}

// A HotSpot is a line or a function and its cost.
type HotSpot struct {
	Label    string    `json:"label"`  // the function, or the trimmed text of the line
	Detail   string    `json:"detail"` // "fib.go:12"
	Text     string    `json:"text"`   // "34.1% · 1.2 s"
	Self     int64     `json:"self"`
	Total    int64     `json:"total"`
	Count    int64     `json:"count"`
	Heat     float64   `json:"heat"` // 0 to 1: share of the hottest
	Location *Location `json:"location,omitempty"`
}

// NeighborsParams names a function by a position in it.
type NeighborsParams struct {
	TextDocument DocumentID `json:"textDocument"`
	Line         int        `json:"line"` // 0-based
}

// NeighborsResult is a function with its callers and callees.
type NeighborsResult struct {
	Capture string     `json:"capture"`
	Name    string     `json:"name"`  // "" where no function with a cost is there
	Label   string     `json:"label"` // Name for narrow places
	Text    string     `json:"text"`  // "34.1% · 1.2 s in total, 1.1% · 40 ms itself"
	Callers []StackRow `json:"callers"`
	Callees []StackRow `json:"callees"`
}

// ProcessInfo is a running process.
type ProcessInfo struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Command string `json:"command"` // with its arguments
	User    string `json:"user"`
	CPU     string `json:"cpu"`     // "12.3%" of one CPU, over the last moments
	Memory  string `json:"memory"`  // resident: "12.0 MiB"
	Go      bool   `json:"go"`      // a program that Go built
	Refused string `json:"refused"` // why it cannot be recorded; "" where it can
}

// TargetsParams says where launch targets are looked for.
type TargetsParams struct {
	// URI is of a file or folder: targets of the .sightline.json files in its folder and above it, up to
	// the workspace folder, come first. "" is only those of the workspace folders.
	URI string `json:"uri,omitempty"`
}

// TargetsResult is the launch targets there are.
type TargetsResult struct {
	Targets []TargetInfo `json:"targets"`
	// Problem says what is wrong with a .sightline.json, in one sentence; "" for nothing. The targets
	// are good all the same.
	Problem string `json:"problem"`
}

// TargetInfo is one launch target. Two files may have targets of one name.
type TargetInfo struct {
	Name     string   `json:"name"`
	Text     string   `json:"text"`   // the command as people write it, cut where it is long
	Detail   string   `json:"detail"` // where it comes from and what it runs in: ".sightline.json · in build"
	Location Location `json:"location"`
}

// ProcessParams names a process.
type ProcessParams struct {
	PID   int    `json:"pid"`
	Start string `json:"start,omitempty"` // ProcessResult.Start of the request before: another process of that number is an error
	// Leaks has the server watch which descriptors grow, and which lines opened those that are open.
	Leaks bool `json:"leaks,omitempty"`
	Map   bool `json:"map,omitempty"`   // tell where its memory is
	Limit int  `json:"limit,omitempty"` // at most so many threads, files and regions; 0 is 500
}

// ProcessResult is one process as it is now.
type ProcessResult struct {
	PID         int             `json:"pid"`
	Start       string          `json:"start"` // tells it from a later process of the same number
	Name        string          `json:"name"`
	Command     string          `json:"command"` // with its arguments
	Title       string          `json:"title"`   // "server (4711) · root · sleeping · for 12 min"
	Note        string          `json:"note"`    // what may not be seen; ""
	CPU         float64         `json:"cpu"`     // share of one processor since the request before
	Memory      int64           `json:"memory"`  // resident bytes
	Facts       []ProcessFact   `json:"facts"`
	Threads     []ProcessThread `json:"threads"`     // the busiest first
	MoreThreads int             `json:"moreThreads"` // after these
	Files       []ProcessFile   `json:"files"`       // descriptors, by number
	MoreFiles   int             `json:"moreFiles"`
	Leaks       []ProcessLeak   `json:"leaks"` // groups of descriptors that grew, the most first
	// Map is where its memory is; left out where nobody asked for it. Where reading it takes long it is that of
	// an earlier answer, as its Time says.
	Map *ProcessMap `json:"map,omitempty"`
}

// ProcessMap is where the memory of a process is.
type ProcessMap struct {
	Time     int64           `json:"time"`     // milliseconds since 1970 when it was read
	Resident int64           `json:"resident"` // bytes, the sum over Kinds
	Text     string          `json:"text"`     // "32.2 MiB resident · 1.2 GiB reserved · 27 regions"
	Note     string          `json:"note"`     // what a reader must know; ""
	Columns  []ProcessColumn `json:"columns"`  // of Kinds' Cells
	Kinds    []ProcessKind   `json:"kinds"`    // those there are, in the order of tables
	Terms    []ProcessTerm   `json:"terms"`    // what holds the resident memory of a Go program; of others none
	Sum      string          `json:"sum"`      // what Terms sum up to, in a sentence; ""
	Stacks   []ProcessStacks `json:"stacks"`   // of goroutines, those with the most bytes first
	Regions  []ProcessRegion `json:"regions"`  // those with the most resident memory first
	More     int             `json:"more"`     // regions after these
}

// A ProcessColumn is a column of numbers.
type ProcessColumn struct {
	Name   string `json:"name"`
	Detail string `json:"detail"` // what it means, in a sentence
}

// A ProcessKind is the memory of one kind.
type ProcessKind struct {
	Name     string   `json:"name"`     // "Managed heap"
	Detail   string   `json:"detail"`   // what it is, in a sentence
	Resident int64    `json:"resident"` // bytes; of Free and Page table 0
	Size     int64    `json:"size"`     // bytes that are reserved
	Share    string   `json:"share"`    // of all resident memory: "54.1%"; "" where it has no part in that
	Cells    []string `json:"cells"`    // by column; "" for nothing
}

// A ProcessTerm is a part of the resident memory by what holds it.
type ProcessTerm struct {
	Name   string        `json:"name"`   // "free slots"
	Bytes  int64         `json:"bytes"`  // resident
	Text   string        `json:"text"`   // "7.6 MiB"
	Share  string        `json:"share"`  // "23.5%"
	Number string        `json:"number"` // how many: "184k"; ""
	Advice string        `json:"advice"` // what to do about it, in a sentence
	Lines  []ProcessLine `json:"lines"`  // behind it, the most bytes first
}

// ProcessStacks are the stacks of goroutines that one line started.
type ProcessStacks struct {
	Number int         `json:"number"` // of goroutines
	Bytes  int64       `json:"bytes"`  // of all
	Size   string      `json:"size"`   // of all, in words: "56.2 MiB"
	Each   string      `json:"each"`   // of one, in words: "64.0 KiB each"
	Line   ProcessLine `json:"line"`
}

// A ProcessRegion is addresses that were reserved for one purpose.
type ProcessRegion struct {
	Start      string        `json:"start"` // hexadecimal
	Kind       string        `json:"kind"`
	Name       string        `json:"name"` // "stack of thread 71 (worker)", "/lib/libc.so.6"
	Protection string        `json:"protection"`
	Size       string        `json:"size"` // "64.0 MiB"
	Resident   string        `json:"resident"`
	Lines      []ProcessLine `json:"lines"` // that allocated what is in it, as far as is known
}

// A ProcessFact is one number of a process.
type ProcessFact struct {
	Name   string `json:"name"`   // "resident"
	Text   string `json:"text"`   // "12.0 MiB"
	Detail string `json:"detail"` // what it means, in a sentence
}

// A ProcessThread is one thread.
type ProcessThread struct {
	TID   int     `json:"tid"`
	Name  string  `json:"name"`
	State string  `json:"state"` // "sleeping"
	Share float64 `json:"share"` // of one processor
	Text  string  `json:"text"`  // the same in words: "12.3%"
	Wait  string  `json:"wait"`  // the kernel's function that it sleeps in; ""
}

// A ProcessFile is one open descriptor.
type ProcessFile struct {
	FD   string `json:"fd"`   // with its mode: "3u"
	Type string `json:"type"` // as lsof has it: "REG"
	Name string `json:"name"`
}

// A ProcessLeak is descriptors that are alike and have grown since they are watched.
type ProcessLeak struct {
	Type  string        `json:"type"`
	Name  string        `json:"name"` // with "*" for what differs: "/tmp/upload-*.part"
	Text  string        `json:"text"` // "81 open, +57 in 3.0 s"
	Open  int           `json:"open"`
	Grew  int           `json:"grew"`
	Lines []ProcessLine `json:"lines"` // that opened those that are open
}

// A ProcessLine is a source line that opened descriptors, allocated memory or started goroutines.
type ProcessLine struct {
	Text     string    `json:"text"`  // "62 by main.leak, main.go:17"
	Count    int       `json:"count"` // of descriptors that are open, of objects, of goroutines
	Location *Location `json:"location,omitempty"`
	Stale    bool      `json:"stale"` // the file was changed since the process started
}

// DoctorResult says what can be recorded here.
type DoctorResult struct {
	Healthy bool         `json:"healthy"` // programs of one's own can be recorded
	Text    string       `json:"text"`    // the report, as the command line prints it
	Engines []EngineInfo `json:"engines"`
}

// EngineInfo is one thing that an engine may do.
type EngineInfo struct {
	Engine string `json:"engine"`
	What   string `json:"what"`
	Works  bool   `json:"works"`
	Detail string `json:"detail"` // what was tried, and how it went
	Why    string `json:"why"`    // why not; ""
	Remedy string `json:"remedy"` // the command to run; ""
}
