package rpc

// This file is the one place where methods beyond the Language Server Protocol are declared. The
// plugins mirror it: one TypeScript and one Lua file.

// ExtensionPrefix begins the name of each of our own methods.
const ExtensionPrefix = "sightline/"

// Our own methods.
const (
	// MethodLines asks for the costs of a document's lines, for editors that draw them by
	// themselves: LinesParams → LinesResult.
	MethodLines = ExtensionPrefix + "lines"
	// MethodCaptures asks for the stored captures, newest first: no parameters → []CaptureInfo.
	MethodCaptures = ExtensionPrefix + "captures"
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
	Kind    string     `json:"kind"`    // "cpu"
	Unit    string     `json:"unit"`    // "ns"
	Total   int64      `json:"total"`   // weight of the whole capture, what 100 % is
	Stale   int        `json:"stale"`   // lines with a cost that were changed since and have lost it
	Lines   []LineCost `json:"lines"`   // ascending
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
	Shown        bool   `json:"shown"` // the one that was opened by hand
	Note         string `json:"note"`
}

// ChangedParams says why numbers changed.
type ChangedParams struct {
	Capture   string `json:"capture"`   // id of the capture shown; "" for none
	Recording bool   `json:"recording"` // more will come
	Samples   int    `json:"samples"`   // so far, while recording
}
