package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.lsp.dev/uri"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/profiler/store"
)

// killsVariable says how often TestDaemonKilledAtAnyInstant kills; `make soak` asks for many.
const killsVariable = "SIGHTLINE_KILLS"

// ticking is a program that computes, and writes the time into a file that it is given after each
// millisecond of that.
const ticking = `
-- go.mod --
module example.com/ticking

go 1.22
-- main.go --
package main

import (
	"encoding/binary"
	"os"
	"time"
)

var sink uint64

//go:noinline
func compute() {
	for begin := time.Now(); time.Since(begin) < time.Millisecond; {
		for i := uint64(0); i < 20_000; i++ {
			sink = sink*6364136223846793005 + i
		}
	}
}

func main() {
	f, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	var b [8]byte
	for {
		compute()
		binary.LittleEndian.PutUint64(b[:], uint64(time.Now().UnixNano()))
		if _, err := f.WriteAt(b[:], 0); err != nil {
			panic(err)
		}
	}
}
`

// A killing is one daemon after the other, in folders of their own, each of which is killed.
type killing struct {
	t        *testing.T
	bin      string
	env      []string // of the daemon and its clients
	run      string   // the runtime folder
	folder   string   // the workspace
	store    string
	pid      int    // of the target
	clock    string // the file that it writes the time into
	clients  []*blindClient
	budget   bool // what was stored may be pruned
	random   *rand.Rand
	finished map[store.ID][32]byte // what was whole when it was last looked at
	most     int                   // of finished at a time
	lost     []time.Duration       // by the recordings that had lasted for seconds
	delays   []time.Duration       // how late this machine was meanwhile
}

// A blindClient is an editor that says what it has to say and looks at no answer.
type blindClient struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	id  int
}

func (k *killing) client() *blindClient {
	k.t.Helper()
	c := &blindClient{cmd: exec.Command(k.bin, "serve")}
	c.cmd.Env, c.cmd.Dir = k.env, k.folder
	var err error
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.clients = append(k.clients, c)
	k.t.Cleanup(c.end)
	folder := map[string]any{"uri": uri.File(k.folder), "name": "folder"}
	c.say("initialize", map[string]any{"processId": nil, "rootUri": folder["uri"], "workspaceFolders": []any{folder}, "capabilities": map[string]any{}}, true)
	c.say("initialized", map[string]any{}, false)
	return c
}

// say sends a message; a daemon that is gone is no matter.
func (c *blindClient) say(method string, params any, call bool) {
	m := map[string]any{"jsonrpc": "2.0", "method": method, "params": params}
	if call {
		c.id++
		m["id"] = c.id
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(c.in, "Content-Length: %d\r\n\r\n%s", len(body), body)
}

func (c *blindClient) execute(command string, args ...any) {
	c.say("workspace/executeCommand", map[string]any{"command": command, "arguments": args}, true)
}

func (c *blindClient) end() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// daemon starts a daemon, which listens when it returns.
func (k *killing) daemon() *exec.Cmd {
	k.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(k.bin, "daemon", "run")
	cmd.Env, cmd.Dir, cmd.ExtraFiles = append(slices.Clone(k.env), daemon.StartingVariable+"=1"), "/", []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, _ := bufio.NewReader(r).ReadString('\n'); line != "ready\n" {
		k.t.Fatalf("the daemon says %q", line)
	}
	return cmd
}

// kill ends a daemon, and its clients with it: one that had not reached it would start another.
func (k *killing) kill(d *exec.Cmd) {
	for _, c := range k.clients {
		c.cmd.Process.Kill()
	}
	d.Process.Kill()
	for _, c := range k.clients {
		c.end()
	}
	k.clients = nil
	d.Wait()
}

// status asks the daemon; the zero value if it does not answer.
func (k *killing) status() (s daemonStatus) {
	sockets, _ := filepath.Glob(filepath.Join(k.run, "sightline", "*.sock"))
	if len(sockets) != 1 {
		return s
	}
	p, err := daemon.Find(func(string) string { return k.run }, strings.TrimSuffix(filepath.Base(sockets[0]), ".sock"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer p.Close()
	conn, err := daemon.Dial(p, daemon.Hello{Wants: wantStatus}, time.Minute)
	if err != nil {
		return s
	}
	defer conn.Close()
	_ = conn.Receive(&s)
	return s
}

// recording begins to record the target and waits until it has lasted for some time.
func (k *killing) recording(c *blindClient, atLeast time.Duration) {
	k.t.Helper()
	c.execute("sightline.record", map[string]any{"pid": k.pid})
	eventually(k.t, "the target is recorded", func() bool {
		s := k.status()
		return len(s.Recordings) == 1 && s.Recordings[0].Samples > 0 && s.Recordings[0].Elapsed >= atLeast
	})
}

// upTo is a random time.
func (k *killing) upTo(d time.Duration) time.Duration {
	return time.Duration(k.random.Int64N(int64(d)))
}

// What the daemon does when it is killed.
var killedWhile = []struct {
	what string
	do   func(k *killing)
	long bool // it has recorded for seconds
}{
	{what: "recording", do: func(k *killing) {
		k.recording(k.client(), 0)
		time.Sleep(k.upTo(400 * time.Millisecond))
	}},
	{what: "storing", do: func(k *killing) {
		c := k.client()
		k.recording(c, 0)
		c.execute("sightline.stop")
		time.Sleep(k.upTo(80 * time.Millisecond))
	}},
	{what: "after storing", do: func(k *killing) { // it prunes meanwhile, where there is little room
		c := k.client()
		k.recording(c, 0)
		c.execute("sightline.stop")
		eventually(k.t, "the recording is stored", func() bool { return len(k.status().Recordings) == 0 })
	}},
	{what: "compacting", do: func(k *killing) { // the command is killed as well
		k.recording(k.client(), 0)
		compact := exec.Command(k.bin, "store", "compact")
		compact.Env, compact.Dir = k.env, k.folder
		if err := compact.Start(); err != nil {
			k.t.Fatal(err)
		}
		time.Sleep(k.upTo(60 * time.Millisecond))
		compact.Process.Kill()
		compact.Wait()
	}},
	{what: "migrating", do: func(k *killing) {
		if _, err := os.Stat(k.store); err == nil {
			setStoreVersion(k.t, k.store, 1)
		}
		k.client()
		time.Sleep(k.upTo(150 * time.Millisecond))
	}},
	{what: "recording for seconds", long: true, do: func(k *killing) {
		k.recording(k.client(), 2500*time.Millisecond)
		time.Sleep(k.upTo(time.Second))
	}},
}

// setStoreVersion makes a store one of another version, whatever it holds.
func setStoreVersion(t *testing.T, path string, version byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		// A record: kind, format, CRC-32C of these and the number, the number (profiler/store/record.go).
		table := crc32.MakeTable(crc32.Castagnoli)
		record := []byte{'F', 1}
		record = binary.LittleEndian.AppendUint32(record, crc32.Checksum([]byte{'F', 1, version}, table))
		return tx.Bucket([]byte("sightline")).Put([]byte("format"), append(record, version))
	}); err != nil {
		t.Fatal(err)
	}
}

// round has a daemon do something and kills it.
func (k *killing) round(n int) {
	k.t.Helper()
	while := killedWhile[n%len(killedWhile)]
	late := machineDelay()
	d := k.daemon()
	while.do(k)
	if while.long { // what the target did in the last moments is what may be lost
		d.Process.Signal(syscall.SIGSTOP)
	}
	var ran time.Time
	if text, err := os.ReadFile(k.clock); err == nil && len(text) == 8 {
		ran = time.Unix(0, int64(binary.LittleEndian.Uint64(text)))
	}
	k.kill(d)
	delay := late()

	st, err := store.Open(k.store, store.Options{})
	if err != nil {
		k.t.Fatalf("killed while %s: %v", while.what, err)
	}
	if err := st.Check(); err != nil {
		k.t.Fatalf("killed while %s: %v", while.what, err)
	}
	list, err := st.List()
	if err != nil {
		k.t.Fatal(err)
	}
	there := map[store.ID]bool{}
	for i, m := range list {
		c, err := st.Load(m.ID)
		if err != nil {
			k.t.Fatalf("killed while %s: %v", while.what, err)
		}
		there[m.ID] = true
		if m.Interrupted {
			if m.Recording {
				k.t.Errorf("killed while %s: capture %s is said to be recorded", while.what, m.ID)
			}
			if i == 0 && while.long {
				samples := c.Series[0].Samples
				last := c.Start
				if n := samples.Len(); n > 0 {
					last = last.Add(samples.Time[n-1])
				}
				k.lost, k.delays = append(k.lost, ran.Sub(last)), append(k.delays, delay)
			}
			continue
		}
		sum := sha256.Sum256(c.AppendText(nil))
		if before, ok := k.finished[m.ID]; ok && before != sum {
			k.t.Errorf("killed while %s: the finished capture %s is another", while.what, m.ID)
		}
		k.finished[m.ID] = sum
	}
	k.most = max(k.most, len(k.finished))
	for id := range k.finished {
		if !there[id] {
			if !k.budget {
				k.t.Errorf("killed while %s: the finished capture %s is lost", while.what, id)
			}
			delete(k.finished, id)
		}
	}
	backups, _ := filepath.Glob(k.store + ".version-*")
	for _, b := range backups {
		os.Remove(b)
	}
}

// machineDelay measures how late things are done on this machine until the function that it returns is
// called: the most that something which is to be done every 20 ms, and written to the disk now and then,
// came late.
func machineDelay() (most func() time.Duration) {
	stop, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		worst := time.Duration(0)
		f, err := os.CreateTemp("", "delay")
		if err == nil {
			defer os.Remove(f.Name())
			defer f.Close()
		}
		for n := 0; ; n++ {
			begin := time.Now()
			select {
			case <-stop:
				result <- worst
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err == nil && n%10 == 0 {
				_, _ = f.WriteAt([]byte{byte(n)}, 0)
				_ = f.Sync()
			}
			worst = max(worst, time.Since(begin)-20*time.Millisecond)
		}
	}()
	return func() time.Duration { close(stop); return <-result }
}

// named has another daemon name what the killed ones have left, through the daemon or without one.
func (k *killing) named() {
	k.t.Helper()
	var without []store.ID // sources
	interrupted := func() (left, named int) {
		without = nil
		st, err := store.Open(k.store, store.Options{})
		if err != nil {
			k.t.Fatal(err)
		}
		list, err := st.List()
		if err != nil {
			k.t.Fatal(err)
		}
		for _, m := range list {
			switch {
			case !m.Interrupted:
			case wasNamed(m.Warnings):
				named++
				if len(m.Files) == 0 {
					without = append(without, m.ID)
				}
			default:
				left++
			}
		}
		return left, named
	}
	d := k.daemon()
	k.client()
	eventually(k.t, "what was interrupted is named", func() bool { left, _ := interrupted(); return left == 0 })
	k.kill(d)
	if _, named := interrupted(); named == 0 && !k.budget || len(without) > 0 {
		k.t.Errorf("%d interrupted captures are named, and %v have no sources", named, without)
	}
}

// Killed at any instant of whatever it does, the daemon leaves a store that opens and is whole, with what
// was finished as it was, and of what it was recording all but the last second. The next daemon names
// that.
func TestDaemonKilledAtAnyInstant(t *testing.T) {
	const workers = 3
	kills := 24
	if n, err := strconv.Atoi(os.Getenv(killsVariable)); err == nil {
		kills = n
	} else if testing.Short() {
		kills = 6
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	w := lsptest.NewWorkspace(t, ticking, lsptest.WorkspaceOptions{})
	target := filepath.Join(t.TempDir(), "ticking")
	build := exec.Command("go", "build", "-o", target, ".")
	build.Dir = w.Root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	clock := filepath.Join(t.TempDir(), "clock")
	ticks := exec.Command(target, clock)
	if err := ticks.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ticks.Process.Kill(); ticks.Wait() })

	var mu sync.Mutex // guards them
	var lost, delays []time.Duration
	rounds := 0
	t.Run("daemons", func(t *testing.T) {
		for worker := range workers {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				run, err := os.MkdirTemp("", "run")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(run) })
				k := &killing{
					t: t, bin: bin, run: run, folder: w.Root, pid: ticks.Process.Pid, clock: clock,
					budget: worker == 0, random: rand.New(rand.NewPCG(uint64(worker), uint64(time.Now().UnixNano()))), finished: map[store.ID][32]byte{},
				}
				state := t.TempDir()
				k.env = append(os.Environ(), noDaemonVariable+"=", "XDG_RUNTIME_DIR="+run, "XDG_STATE_HOME="+state)
				if k.budget {
					k.env = append(k.env, budgetVariable+"=200KiB")
				}
				if k.store, err = store.PathIn(workspaceOf(w.Root), func(string) string { return state }); err != nil {
					t.Fatal(err)
				}
				for n := worker; n < kills; n += workers {
					k.round(n/workers + 2*worker) // not all the same at once
				}
				k.named()
				if k.most == 0 && kills >= 24 {
					t.Error("no recording was finished")
				}
				mu.Lock()
				defer mu.Unlock()
				lost, delays = append(lost, k.lost...), append(delays, k.delays...)
				rounds += (kills - worker + workers - 1) / workers
			})
		}
	})
	if t.Failed() || len(lost) == 0 {
		return
	}
	// More may be lost where the machine itself was late: each flush waits for the processor and for
	// the disk, several times. On one that is busy that may still not explain every loss, so that what
	// is asked for by default is that half of them kept the promise.
	const waits = 4
	var over []time.Duration
	for i, l := range lost {
		over = append(over, l-waits*delays[i])
	}
	slices.Sort(over)
	slices.Sort(lost)
	t.Logf("%d kills; of %d recordings that had lasted for seconds %v was lost at most, %v by half; the machine was late by %v", rounds, len(lost), lost[len(lost)-1], lost[len(lost)/2], slices.Max(delays))
	part := over[len(over)/2]
	if os.Getenv(killsVariable) != "" {
		part = over[len(over)*95/100]
	}
	if part > time.Second {
		t.Errorf("more than a second is lost, without what the machine was late: %v", over)
	}
}
