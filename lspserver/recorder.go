package lspserver

import (
	"context"
	"time"

	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/nativetest"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A Recorder records programs for the server. The server never sees the kernel: the program that
// wires it together gives it the real recorder, and tests give it a replay.
//
// Start begins a recording and returns at once; building a test is part of the recording (phase
// "building"). It fails only for what can be told without waiting, such as a missing folder or a
// refused permission, with one sentence that names the remedy. When ctx ends the session is over:
// the recording is stopped and what it has is kept.
type Recorder interface {
	Start(ctx context.Context, req Request) (Recording, error)
}

// A Request says what to record. Exactly one of Test, Native, Command, PID and Machine is set.
type Request struct {
	// Workspace is the root folder whose store takes the capture, as given to Config.OpenStore.
	Workspace string
	Dir       string       // folder that a command runs in; the test's package folder for a test
	Test      *TestRequest // a Go test or benchmark
	Native    *NativeTest  // a test of a C++ or Rust program
	Command   []string     // program and arguments
	// Of a Command that is a launch target: its name, what it has on top of the environment there is, as
	// "KEY=value", and a command that is run in Dir before it and must succeed.
	Name    string
	Env     []string
	Build   []string
	PID     int           // a running process
	Machine bool          // every process
	For     time.Duration // how long at most; 0 is until the target ends, or until Stop
	// Kind is what is recorded: profile.CPU, or profile.Alloc, of a Command or PID, which is what its allocator
	// is asked for. "" is profile.CPU.
	Kind profile.Kind
	// AllocationPeriod is how many bytes of profile.Alloc there are from one allocation that is taken down to the
	// next; 0 is the recorder's default. MostSlowdown is by what share of its time a process may be slowed
	// down by that; 0 is any.
	AllocationPeriod int64
	MostSlowdown     float64
	Freq             int    // samples per second and CPU; 0 is the recorder's default
	Engine           string // "bpf", "perf", or "" for the best that opens
	// Prefixes are the user's own rules from build paths to paths of this machine.
	Prefixes []sourcemap.Prefix
	// DebugFolders are searched for debug files before /usr/lib/debug.
	DebugFolders []string
}

// A TestRequest names Go tests as go test does.
type TestRequest struct {
	Package string   // the package's folder
	Run     string   // pattern for -run; "" is every test, or none where Bench is set
	Bench   string   // pattern for -bench; "" is no benchmark
	Args    []string // further go test flags
	// Kinds are what is recorded: "cpu", and what Go tells of itself: "heap", "block", "mutex". None is
	// "cpu".
	Kinds []string
	// The test is repeated until it has Samples samples or Max has passed; 0 is the recorder's
	// default.
	Samples int
	Max     time.Duration
}

// A NativeTest names a test of a C++ or Rust program, and where to look for the program. A Rust
// program is built by Cargo. That of a C++ test is one of Programs, or else one of a CMake project,
// which is built.
type NativeTest struct {
	Framework nativetest.Framework
	Bench     bool   // Rust's #[bench]
	File      string // the source that has it
	Name      string // what people call it; of Rust with the modules that lead to the file
	Filter    string // what selects it: see nativetest.Test
	Programs  []launch.Target
	Builds    []string // folders that CMake builds in
	Args      []string // further flags: of cargo, as "--release", or of the program in C++
	// As of a TestRequest.
	Samples int
	Max     time.Duration
}

// Title is the test as a person names it: "GoogleTest Fib.Small", "cargo test tests::small".
func (t *NativeTest) Title() string {
	if t.Bench {
		return "cargo bench " + t.Name
	}
	return t.Framework.Title() + " " + t.Name
}

// A Recording is one run of a Recorder. All methods may be called from any goroutine.
type Recording interface {
	// Updates tells how the recording goes, a few times a second, and is closed when it ends. The
	// receiver may be slow: the sender drops updates but those that carry Output.
	Updates() <-chan Update
	// Stop ends the recording and keeps what was recorded. It returns at once; Wait tells the end. After
	// the target's end it gives up what may take long and can be done without: fetching debug files.
	Stop()
	// Discard ends the recording and keeps nothing. It returns at once.
	Discard()
	// Wait is the end: the capture is stored (or dropped) and the target has ended or was let go.
	// The error is one sentence with the remedy; nothing was stored then. A target that fails by
	// itself is no error: see Result.Failed.
	Wait() (Result, error)
}

// Phases of a recording, as Update.Phase names them.
const (
	PhaseBuilding    = "building"
	PhaseRecording   = "recording"
	PhaseSymbolizing = "symbolizing"
	PhaseStoring     = "storing"
)

// An Update is the state of a recording at one moment.
type Update struct {
	Elapsed time.Duration // since the target began to run
	Samples int           // taken so far
	Phase   string
	Note    string // what is being waited for within the phase, for people: "fetching symbols of libc.so.6"; ""
	Output  []byte // what the target wrote since the last update
	// Capture is a symbolized view of what is recorded so far, or nil; with PhaseStoring it is all
	// that was recorded, to be shown while it is being written. It does not change any more.
	Capture *profile.Capture
	// Shown is called once Capture is shown, or cannot be, where it is not nil: the recorder waits a
	// moment with what takes the processor from whoever waits for the numbers.
	Shown func()
}

// A Result is how a recording ended.
type Result struct {
	ID      store.ID // "" where nothing was stored (discarded, or not one sample)
	Failed  bool     // the target failed: a test failed, a command exited with an error
	Message string   // one sentence about the failure or about what is missing; ""
}
