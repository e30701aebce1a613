package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A largeProgram is a generated Go program of the size that people have: some hundred packages, ten
// thousand and more functions with bodies, DWARF as `go build` writes it.
type largeProgram struct {
	dir    string // its module
	binary string
	size   int64  // of the binary
	file   string // a source of 5,000 lines and more that costs time
	fn     string // a function in it that does, as pprof names it
}

const (
	largePackages  = 144
	largeFunctions = 240 // of each package; a file
)

// MakeLarge writes and builds the program, unless an earlier run has left it as it would be. The
// program runs two threads until it has used the CPU time that its first argument says, over
// functions of all packages, and as its last act writes the clock to the file of its second one. A
// few packages take most of the time, as in programs that people write. With a third argument it is
// otherwise: "even" has all take the same, and hardly two samples have one stack; "one" runs only
// the package of largeProgram.file.
func makeLarge(b *testing.B) largeProgram {
	b.Helper()
	dir := filepath.Join(benchDir(b, "cache"), "large")
	p := largeProgram{
		dir: dir, binary: filepath.Join(dir, "large"), file: filepath.Join(dir, "p003", "p003.go"), fn: `^example\.com/large/p003\.Fold0$`,
	}
	files := map[string]string{"go.mod": "module example.com/large\n\ngo 1.22\n", "main.go": largeMain()}
	for i := range largePackages {
		name := fmt.Sprintf("p%03d", i)
		files[name+"/"+name+".go"] = largePackage(name, i)
	}
	sum := sha256.New()
	fmt.Fprintln(sum, mustOutput(b, packageDir, "go", "version"))
	for i := range largePackages {
		name := fmt.Sprintf("p%03d", i)
		sum.Write([]byte(files[name+"/"+name+".go"]))
	}
	sum.Write([]byte(files["main.go"]))
	is := hex.EncodeToString(sum.Sum(nil))
	stamp := filepath.Join(dir, "made-of")
	if was, err := os.ReadFile(stamp); err != nil || string(was) != is {
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		mustOutput(b, dir, "go", "build", "-buildvcs=false", "-o", p.binary, ".")
		if err := os.WriteFile(stamp, []byte(is), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	// It is a workspace of its own, not a part of this project's.
	if err := os.MkdirAll(filepath.Join(dir, ".git"), 0o755); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(p.binary)
	if err != nil {
		b.Fatal(err)
	}
	p.size = info.Size()
	return p
}

func largeMain() string {
	var s strings.Builder
	s.WriteString("// Code generated for a benchmark. DO NOT EDIT.\n\npackage main\n\nimport (\n\t\"os\"\n\t\"strconv\"\n\t\"sync\"\n\t\"syscall\"\n\t\"time\"\n\n")
	for i := range largePackages {
		fmt.Fprintf(&s, "\t\"example.com/large/p%03d\"\n", i)
	}
	s.WriteString(")\n\nvar packages = []func(seed, n uint64, even bool) uint64{\n")
	for i := range largePackages {
		fmt.Fprintf(&s, "\tp%03d.Run,\n", i)
	}
	s.WriteString(`}

func main() {
	length, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	even := len(os.Args) > 3 && os.Args[3] == "even"
	if len(os.Args) > 3 && os.Args[3] == "one" {
		packages = packages[3:4]
	}
	used := func() time.Duration {
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var all sync.WaitGroup
	for thread := range uint64(2) {
		all.Add(1)
		go func() {
			defer all.Done()
			for seed := thread; used() < length; seed += 2 {
				for i, run := range packages {
					if even || seed%(1+uint64(i*i)/16) == 0 {
						run(seed, 16+uint64(i)%5, even)
					}
				}
			}
		}()
	}
	all.Wait()
	os.WriteFile(os.Args[2], strconv.AppendInt(nil, time.Now().UnixNano(), 10), 0o644)
}
`)
	return s.String()
}

// LargePackage is a package of many functions that call each other, inlined ones among them.
func largePackage(name string, number int) string {
	var s strings.Builder
	fmt.Fprintf(&s, `// Code generated for a benchmark. DO NOT EDIT.

package %s

import (
	"fmt"
	"sort"
	"strings"
)

type Record struct {
	Name  string
	Marks []uint64
	Next  *Record
	Sums  map[uint64]int
}

func mix(a, b uint64) uint64 {
	a ^= b >> 7
	a *= 0x9E3779B97F4A7C15
	return a ^ a>>29
}

func clamp(x, low, high uint64) uint64 {
	if x < low {
		return low
	}
	if x > high {
		return high
	}
	return x
}

func step(x uint64) uint64 { return mix(clamp(x, 3, 1<<60), x<<3) }

func (r *Record) add(x uint64) {
	r.Marks = append(r.Marks, step(x))
	if len(r.Marks) > 64 {
		r.Marks = r.Marks[:0]
	}
}

`, name)
	// Each sort of body is some 20 lines; constants differ, so that the linker cannot fold them.
	for k := range largeFunctions {
		c := number*largeFunctions + k
		down := func(way int) string { return fmt.Sprintf("%s%d", largeName(2*k+way), 2*k+way) }
		call := ""
		for way := 1; way <= 2; way++ {
			if 2*k+way < largeFunctions {
				call += fmt.Sprintf("\tif n > 4 && (x>>%d)&1 == %d {\n\t\tx += %s(r, x, n-3)\n\t}\n", way+k%5, way%2, down(way))
			}
		}
		fmt.Fprintf(&s, "func %s%d(r *Record, x, n uint64) uint64 {\n", largeName(k), k)
		switch k % 6 {
		case 0:
			fmt.Fprintf(&s, `	total := uint64(%d)
	for i := uint64(0); i < n; i++ {
		total = mix(total, x+i)
		if total%%%d == 0 {
			total += step(i)
			continue
		}
		for j := i; j < n; j += 4 {
			total ^= clamp(total>>3, j, %d)
		}
	}
%s	r.add(total)
	return total + x
`, c+3, c%37+5, 1<<20+c, call)
		case 1:
			fmt.Fprintf(&s, `	var table [32]uint64
	for i := range table {
		table[i] = step(x + uint64(i)*%d)
	}
	for i := uint64(0); i < n; i++ {
		a, z := i%%32, (i*%d)%%32
		if table[a] > table[z] {
			table[a], table[z] = table[z], table[a]
		} else {
			table[a] += mix(table[z], i)
		}
	}
%s	for _, v := range table {
		x += v & %d
	}
	r.add(x)
	return x
`, c+11, c%29+3, call, c|255)
		case 2:
			fmt.Fprintf(&s, `	if r.Sums == nil || len(r.Sums) > 64 {
		r.Sums = map[uint64]int{}
	}
	for i := uint64(0); i < n/2; i++ {
		key := mix(x, i) %% %d
		r.Sums[key]++
		if r.Sums[key] > 3 {
			delete(r.Sums, key)
			x = step(x)
		}
	}
%s	switch x %% 4 {
	case 0:
		x = mix(x, %d)
	case 1:
		x = clamp(x, %d, 1<<50)
	case 2:
		r.add(x)
	default:
		x++
	}
	return x
`, c%61+17, call, c+1, c+2)
		case 3:
			fmt.Fprintf(&s, `	var text strings.Builder
	for i := uint64(0); i < n/4; i++ {
		text.WriteByte(byte('a' + (x>>i)%%26))
		if i%%3 == 2 {
			text.WriteString("-%d-")
		}
	}
	for _, c := range []byte(text.String()) {
		x = mix(x, uint64(c)+%d)
	}
%s	if x == %d {
		r.Name = fmt.Sprintf("%%s of %%d after %%d", text.String(), x, n)
	}
	return x
`, c%97, c, call, c+5)
		case 4:
			fmt.Fprintf(&s, `	marks := append(r.Marks[:0:0], r.Marks...)
	for i := range marks {
		marks[i] = marks[i]*%d + uint64(i)
	}
	if len(marks) > 20 && x%%16 == 1 {
		sort.Slice(marks, func(i, j int) bool { return marks[i] < marks[j] })
	}
	low, high := 0, len(marks)
	for low < high {
		middle := (low + high) / 2
		if marks[middle] < x {
			low = middle + 1
		} else {
			high = middle
		}
	}
%s	return mix(x, uint64(low)+%d)
`, c|1, call, c)
		case 5:
			fmt.Fprintf(&s, `	const size = 6
	var a, z [size][size]uint64
	for i := range size {
		for j := range size {
			a[i][j] = x + uint64(i*j+%d)
		}
	}
	for i := range size {
		for j := range size {
			for k := range size {
				z[i][j] += a[i][k] * a[k][j]
			}
		}
	}
%s	r.Next = &Record{Name: r.Name}
	r.add(z[%d][%d])
	return x ^ z[2][3]
`, c, call, c%6, c/6%6)
		}
		s.WriteString("}\n\n")
	}
	s.WriteString("var all = []func(r *Record, x, n uint64) uint64{\n")
	for k := range largeFunctions {
		fmt.Fprintf(&s, "\t%s%d,\n", largeName(k), k)
	}
	fmt.Fprintf(&s, `}

// Run calls the first functions, which call others; if even, some of the rest too.
func Run(seed, n uint64, even bool) (x uint64) {
	r := &Record{Name: "%s"}
	x = seed + 1
	for i := uint64(0); i < uint64(len(all)); i++ {
		if i < uint64(len(all)/8) && (even || (seed+i)%%(1+i/3) == 0) || even && (i+seed)%%200 == 0 {
			x += all[i](r, x, n)
		}
	}
	return x
}
`, name)
	return s.String()
}

var largeNames = []string{"Fold", "Table", "Tally", "Spell", "Search", "Multiply"}

func largeName(k int) string { return largeNames[k%len(largeNames)] }
