-- Code generated from lspserver/rpc/extension.go by go test ./cmd/sightline -run TestExtension -update; DO NOT EDIT.

local M = {}

--- Our own methods. Those that read captures answer from what is stored and never wait for a recording; all
--- can be cancelled.
M.methods = {
  --- MethodLines asks for the costs of a document's lines, for editors that draw them by themselves:
  --- LinesParams → LinesResult.
  lines = "sightline/lines",
  --- MethodCaptures asks for the stored captures, newest first: no parameters → CaptureInfo[].
  captures = "sightline/captures",
  --- MethodStacks asks for rows of a stack view: StacksParams → StacksResult. A tree is walked by asking for
  --- the children of one row at a time.
  stacks = "sightline/stacks",
  --- MethodDiff is the same of the difference of two captures: DiffParams → StacksResult.
  diff = "sightline/diff",
  --- MethodPresets asks for the filters that have a name: PresetsParams → Preset[].
  presets = "sightline/presets",
  --- MethodFlame asks for a flame graph: FlameParams → FlameResult.
  flame = "sightline/flame",
  --- MethodHottest asks for the costliest lines or functions: HottestParams → HotSpot[].
  hottest = "sightline/hottest",
  --- MethodNeighbors asks who calls the function at a position and whom it calls: NeighborsParams →
  --- NeighborsResult.
  neighbors = "sightline/neighbors",
  --- MethodProcesses asks for the processes that can be recorded, the busiest first: no parameters →
  --- ProcessInfo[].
  processes = "sightline/processes",
  --- MethodTargets asks for the launch targets of .sightline.json that can be recorded by name: TargetsParams
  --- → TargetsResult.
  targets = "sightline/targets",
  --- MethodProcess asks what one process uses and has open now: ProcessParams → ProcessResult. What it used is
  --- since the request before; a page asks every second while it can be seen, and what the server keeps for it
  --- is dropped when nobody has asked for ten.
  process = "sightline/process",
  --- MethodStatus asks for what the server is doing: no parameters → StatusResult.
  status = "sightline/status",
  --- MethodDoctor asks what can be recorded here: no parameters → DoctorResult.
  doctor = "sightline/doctor",
  --- MethodChanged tells the client that numbers changed (a recording grew or ended, another capture or metric
  --- is shown): ChangedParams, a notification from the server. A client that draws by itself asks again;
  --- others have had a refresh request.
  changed = "sightline/changed",
}

--- The views of StacksParams.
M.views = {
  by_name = "by-name",
  call_tree = "call-tree",
  --- tree of who calls Focus
  callers = "callers",
  --- tree of what Focus calls
  callees = "callees",
  --- one level of both, each row with its Side
  caller_callee = "caller-callee",
  --- source lines, by self; with Focus those of that row
  lines = "lines",
  --- the functions of the source file that Focus names
  functions = "functions",
  --- a row for each thread with its Weights over time
  timeline = "timeline",
  --- one row, of Focus or of everything, with its Weights over time
  histogram = "histogram",
}

--- LinesParams names a document.
---@class sightline.LinesParams
---@field textDocument sightline.DocumentID

--- A DocumentID names a document by its URI, as protocol.TextDocumentIdentifier does.
---@class sightline.DocumentID
---@field uri string

--- LinesResult is the costs of one document, as its text is now.
---@class sightline.LinesResult
---@field capture string id; "" while none touches the document
---@field kind string whose numbers these are: "cpu"
---@field kinds sightline.KindInfo[] what the capture measured; sightline.setMetric changes between them
---@field unit string "ns"
---@field total integer weight of the whole capture, what 100 % is
---@field stale integer lines with a cost that were changed since and have lost it
---@field note string "profiled 3 min ago, 2 lines changed since"; "" while none touches the document
---@field lines sightline.LineCost[] ascending

--- A KindInfo is one thing that a capture measured.
---@class sightline.KindInfo
---@field kind string "alloc"
---@field text string for people: "Allocated memory"

--- A LineCost is the cost of one line.
---@class sightline.LineCost
---@field line integer 0-based, in the present text
---@field self integer in LinesResult.Unit
---@field total integer in LinesResult.Unit
---@field count integer samples in Total
---@field heat number 0 to 1: share of the hottest line of the document
---@field text string as the inlay hint words it; "" where the line is below the threshold

--- CaptureInfo is one stored capture.
---@class sightline.CaptureInfo
---@field id string
---@field target string as a person names it: "go test ./fib"
---@field started string RFC 3339
---@field milliseconds integer
---@field samples integer
---@field pinned boolean
---@field interrupted boolean
---@field shown boolean the one that was opened by hand
---@field baseline boolean the one that others are compared with
---@field note string a person's words
---@field kind string of its first series: "cpu"
---@field text string "3 min ago · 1.2 s · 1.1k samples"

--- ChangedParams says why numbers changed, or how a recording goes.
---@class sightline.ChangedParams: sightline.StatusResult
---@field capture string id of the capture shown; "" for none

--- StatusResult is what the server is doing.
---@class sightline.StatusResult
---@field recording boolean more will come
---@field phase string "building", "recording", "symbolizing", "storing"; "" when idle
---@field target string what is recorded: "go test ./fib"; ""
---@field milliseconds integer since the target began to run
---@field samples integer so far, while recording
---@field text string for a status line: "3.2 s · 1.2k samples"; "" when idle
---@field version string of the server
---@field log string path of its log file; "" where it has none but standard error

--- A SourceRef names what stacks are taken from: a stored capture, or a file that an import reads.
---@class sightline.SourceRef
---@field capture? string id, its beginning, "@" for the newest, "@2"; "" with File "" is what is shown, else the newest
---@field root? string workspace folder whose store has it; "" looks in all
---@field file? string path of a file of any format that import reads
---@field kind? string which series; "" is the first

--- A StackFilter is the text of a stack viewer's fields, all optional.
---@class sightline.StackFilter
---@field preset? string name of a Preset, whose fields hold where those below are empty
---@field group? string group patterns
---@field fold? string fold patterns
---@field foldPercent? number fold what is below this share of the whole
---@field include? string patterns that stacks must have, all of them
---@field exclude? string patterns that stacks must not have
---@field start? string ms since the capture began
---@field end? string
---@field tasks? boolean begin stacks with their process and thread
---@field weights? string "interval" or "amount"; "" as the kind has it

--- StacksParams asks for rows of one view.
---@class sightline.StacksParams: sightline.SourceRef
---@field filter sightline.StackFilter
---@field view string
---@field focus? string name of a row, for views about one function
---@field find? string keep rows that match this pattern; not in trees
---@field node? string of a tree: the row whose children are asked for; "" is the root
---@field offset? integer
---@field limit? integer at most so many rows; 0 is 200
---@field buckets? integer Buckets is how many parts of time the Weights of timeline and histogram have; 0 is 32.

--- DiffParams asks for rows of the difference after − before.
---@class sightline.DiffParams: sightline.StacksParams
---@field before sightline.SourceRef
---@field overweight? boolean Overweight asks for the overweight report instead of View: which functions grew more than the whole did.

--- StacksResult is some rows of a view.
---@class sightline.StacksResult
---@field capture string id; "" for a file
---@field title string "go test ./fib · 3 min ago"
---@field about string what Rows are: "call tree", "callers of fib.Fib"
---@field filter string what is filtered, in words; "" for nothing
---@field unit string of weights
---@field total number weight of all that the filter lets through
---@field text string the same in words: "1.2 s, 1.1k samples"
---@field rows sightline.StackRow[]
---@field more integer rows after these
---@field fields sightline.StackFilter the filter with its preset filled in
---@field start? number Start and Width are of the first of a row's Weights and of each, in ms.
---@field width? number

--- A StackRow is a function, group or call path and its cost.
---@class sightline.StackRow
---@field node string names the row of a tree in StacksParams.Node; "" in other views
---@field name string as Focus and patterns know it
---@field label string Name for narrow places: without folders of the module
---@field side? string of caller-callee: "caller", "focus", "callee"
---@field total number
---@field self number
---@field totalCount number
---@field selfCount number
---@field share number of total, 0 to 1; signed in a difference
---@field text string "34.1% · 1.2 s"; in a difference "+340 ms (+12%)"
---@field selfText string the same of self; "" where there is none
---@field when string a character for each 32nd of the time
---@field which? string
---@field first? number ms since the capture began; absent where not known
---@field last? number
---@field foldWeight? number part of Self that was folded in
---@field foldCount? number
---@field weights? number[] over time
---@field children boolean a tree's row that has children
---@field location? sightline.Location where the function is now
---@field tooltip string a few lines of plain text

--- A Location is a place in a file as it is now.
---@class sightline.Location
---@field uri string
---@field line integer 0-based

--- PresetsParams asks for the presets that hold for a folder.
---@class sightline.PresetsParams
---@field root? string

--- A Preset is a filter with a name.
---@class sightline.Preset
---@field name string "just my code"
---@field detail string one line that says what it does
---@field stock boolean comes with the program; others were saved by a person
---@field filter sightline.StackFilter
---@field default boolean what a viewer begins with

--- FlameParams asks for a flame graph.
---@class sightline.FlameParams: sightline.SourceRef
---@field filter sightline.StackFilter
---@field before? sightline.SourceRef draw the difference to this
---@field focus? string only the callees of one function
---@field least? number leave out boxes narrower than this share; 0 is 0.0005
---@field svg? boolean answer the picture itself

--- FlameResult is a flame graph as boxes, or as a picture.
---@class sightline.FlameResult
---@field capture string
---@field title string
---@field text string "1.2 s, 1.1k samples"
---@field depth integer
---@field names string[]
---@field labels string[] of Names, for narrow places: drawn as they are
---@field modules string[] Modules of Names, for colours; "" where not known.
---@field locations (sightline.Location|vim.NIL)[] Locations of Names; null where a function has none.
---@field boxes sightline.FlameBox[] parents before children
---@field svg? string

--- A FlameBox is one call path.
---@class sightline.FlameBox
---@field p integer index of the caller's box; -1 for the root
---@field n integer index of Names
---@field d integer 0 for the root
---@field x number left edge, 0 to 1
---@field w number 0 to 1
---@field t string "34.1% · 1.2 s"
---@field s string "1.1% · 40 ms"; ""
---@field g integer of a difference: 1 grew, -1 shrank; else 0

--- HottestParams asks for the costliest places.
---@class sightline.HottestParams: sightline.SourceRef
---@field what string "lines" or "functions"
---@field limit? integer 0 is 50
---@field all? boolean also outside the workspace

--- A HotSpot is a line or a function and its cost.
---@class sightline.HotSpot
---@field label string the function, or the trimmed text of the line
---@field detail string "fib.go:12"
---@field text string "34.1% · 1.2 s"
---@field self integer
---@field total integer
---@field count integer
---@field heat number 0 to 1: share of the hottest
---@field location? sightline.Location

--- NeighborsParams names a function by a position in it.
---@class sightline.NeighborsParams
---@field textDocument sightline.DocumentID
---@field line integer 0-based

--- NeighborsResult is a function with its callers and callees.
---@class sightline.NeighborsResult
---@field capture string
---@field name string "" where no function with a cost is there
---@field label string Name for narrow places
---@field text string "34.1% · 1.2 s in total, 1.1% · 40 ms itself"
---@field callers sightline.StackRow[]
---@field callees sightline.StackRow[]

--- ProcessInfo is a running process.
---@class sightline.ProcessInfo
---@field pid integer
---@field name string
---@field command string with its arguments
---@field user string
---@field cpu string "12.3%" of one CPU, over the last moments
---@field memory string resident: "12.0 MiB"
---@field go boolean a program that Go built
---@field refused string why it cannot be recorded; "" where it can

--- TargetsParams says where launch targets are looked for.
---@class sightline.TargetsParams
---@field uri? string URI is of a file or folder: targets of the .sightline.json files in its folder and above it, up to the workspace folder, come first. "" is only those of the workspace folders.

--- TargetsResult is the launch targets there are.
---@class sightline.TargetsResult
---@field targets sightline.TargetInfo[]
---@field problem string Problem says what is wrong with a .sightline.json, in one sentence; "" for nothing. The targets are good all the same.

--- TargetInfo is one launch target. Two files may have targets of one name.
---@class sightline.TargetInfo
---@field name string
---@field text string the command as people write it, cut where it is long
---@field detail string where it comes from and what it runs in: ".sightline.json · in build"
---@field location sightline.Location

--- ProcessParams names a process.
---@class sightline.ProcessParams
---@field pid integer
---@field start? string ProcessResult.Start of the request before: another process of that number is an error
---@field leaks? boolean Leaks has the server watch which descriptors grow, and which lines opened those that are open.
---@field map? boolean tell where its memory is
---@field limit? integer at most so many threads, files and regions; 0 is 500

--- ProcessResult is one process as it is now.
---@class sightline.ProcessResult
---@field pid integer
---@field start string tells it from a later process of the same number
---@field name string
---@field command string with its arguments
---@field title string "server (4711) · root · sleeping · for 12 min"
---@field note string what may not be seen; ""
---@field cpu number share of one processor since the request before
---@field memory integer resident bytes
---@field facts sightline.ProcessFact[]
---@field threads sightline.ProcessThread[] the busiest first
---@field moreThreads integer after these
---@field files sightline.ProcessFile[] descriptors, by number
---@field moreFiles integer
---@field leaks sightline.ProcessLeak[] groups of descriptors that grew, the most first
---@field map? sightline.ProcessMap Map is where its memory is; left out where nobody asked for it. Where reading it takes long it is that of an earlier answer, as its Time says.

--- ProcessMap is where the memory of a process is.
---@class sightline.ProcessMap
---@field time integer milliseconds since 1970 when it was read
---@field resident integer bytes, the sum over Kinds
---@field text string "32.2 MiB resident · 1.2 GiB reserved · 27 regions"
---@field note string what a reader must know; ""
---@field columns sightline.ProcessColumn[] of Kinds' Cells
---@field kinds sightline.ProcessKind[] those there are, in the order of tables
---@field terms sightline.ProcessTerm[] what holds the resident memory of a Go program; of others none
---@field sum string what Terms sum up to, in a sentence; ""
---@field stacks sightline.ProcessStacks[] of goroutines, those with the most bytes first
---@field regions sightline.ProcessRegion[] those with the most resident memory first
---@field more integer regions after these

--- A ProcessColumn is a column of numbers.
---@class sightline.ProcessColumn
---@field name string
---@field detail string what it means, in a sentence

--- A ProcessKind is the memory of one kind.
---@class sightline.ProcessKind
---@field name string "Managed heap"
---@field detail string what it is, in a sentence
---@field resident integer bytes; of Free and Page table 0
---@field size integer bytes that are reserved
---@field share string of all resident memory: "54.1%"; "" where it has no part in that
---@field cells string[] by column; "" for nothing

--- A ProcessTerm is a part of the resident memory by what holds it.
---@class sightline.ProcessTerm
---@field name string "free slots"
---@field bytes integer resident
---@field text string "7.6 MiB"
---@field share string "23.5%"
---@field number string how many: "184k"; ""
---@field advice string what to do about it, in a sentence
---@field lines sightline.ProcessLine[] behind it, the most bytes first

--- ProcessStacks are the stacks of goroutines that one line started.
---@class sightline.ProcessStacks
---@field number integer of goroutines
---@field bytes integer of all
---@field size string of all, in words: "56.2 MiB"
---@field each string of one, in words: "64.0 KiB each"
---@field line sightline.ProcessLine

--- A ProcessRegion is addresses that were reserved for one purpose.
---@class sightline.ProcessRegion
---@field start string hexadecimal
---@field kind string
---@field name string "stack of thread 71 (worker)", "/lib/libc.so.6"
---@field protection string
---@field size string "64.0 MiB"
---@field resident string
---@field lines sightline.ProcessLine[] that allocated what is in it, as far as is known

--- A ProcessFact is one number of a process.
---@class sightline.ProcessFact
---@field name string "resident"
---@field text string "12.0 MiB"
---@field detail string what it means, in a sentence

--- A ProcessThread is one thread.
---@class sightline.ProcessThread
---@field tid integer
---@field name string
---@field state string "sleeping"
---@field share number of one processor
---@field text string the same in words: "12.3%"
---@field wait string the kernel's function that it sleeps in; ""

--- A ProcessFile is one open descriptor.
---@class sightline.ProcessFile
---@field fd string with its mode: "3u"
---@field type string as lsof has it: "REG"
---@field name string

--- A ProcessLeak is descriptors that are alike and have grown since they are watched.
---@class sightline.ProcessLeak
---@field type string
---@field name string with "*" for what differs: "/tmp/upload-*.part"
---@field text string "81 open, +57 in 3.0 s"
---@field open integer
---@field grew integer
---@field lines sightline.ProcessLine[] that opened those that are open

--- A ProcessLine is a source line that opened descriptors, allocated memory or started goroutines.
---@class sightline.ProcessLine
---@field text string "62 by main.leak, main.go:17"
---@field count integer of descriptors that are open, of objects, of goroutines
---@field location? sightline.Location
---@field stale boolean the file was changed since the process started

--- DoctorResult says what can be recorded here.
---@class sightline.DoctorResult
---@field healthy boolean programs of one's own can be recorded
---@field text string the report, as the command line prints it
---@field engines sightline.EngineInfo[]

--- EngineInfo is one thing that an engine may do.
---@class sightline.EngineInfo
---@field engine string
---@field what string
---@field works boolean
---@field detail string what was tried, and how it went
---@field why string why not; ""
---@field remedy string the command to run; ""

return M
