package sourcemap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Answers are what DWARF has said of some addresses of one binary, so that the next recording of the
// same build need not read it: that of a large C++ program takes a second. An answer holds for all
// addresses of one line in one inlined call, not only for the one that was asked.
//
// They are kept in a file per build ID, in a folder of the user's. A file comes to be under another
// name and is renamed when it is whole; it is never changed afterwards. Nothing in the folder is
// trusted: what is not whole, or of another version or build ID or owner, is no answer.
type answers struct {
	spans  []answer // by low, without overlaps
	chains []int32  // into frames
	frames []profile.Frame
	sums   map[string][]sum // checksums of sources that frames are in
}

// An answer is the frames of the addresses [low, high): chains[from:to], innermost first; none where the
// binary's tables do not know them.
type answer struct {
	low, high uint64
	from, to  int32
}

// find is the answer for an address.
func (a *answers) find(addr uint64) (answer, bool) {
	if a == nil {
		return answer{}, false
	}
	i, ok := slices.BinarySearchFunc(a.spans, addr, func(s answer, addr uint64) int {
		switch {
		case s.high <= addr:
			return -1
		case s.low > addr:
			return 1
		}
		return 0
	})
	if !ok {
		return answer{}, false
	}
	return a.spans[i], true
}

// has says whether there is an answer for an address.
func (a *answers) has(addr uint64) bool {
	_, ok := a.find(addr)
	return ok
}

// append appends the frames of an answer to buf.
func (a *answers) append(of answer, buf []profile.Frame) []profile.Frame {
	for _, id := range a.chains[of.from:of.to] {
		buf = append(buf, a.frames[id])
	}
	return buf
}

// with are the answers of a and those that are new.
func (a *answers) with(fresh []freshAnswer, sums func(file string) []sum) *answers {
	b := &answers{sums: map[string][]sum{}}
	ids := map[profile.Frame]int32{}
	add := func(low, high uint64, frames []profile.Frame) {
		from := int32(len(b.chains))
		for _, f := range frames {
			f.Module = "" // the binary, under whatever name
			id, ok := ids[f]
			if !ok {
				id = int32(len(b.frames))
				ids[f] = id
				b.frames = append(b.frames, f)
			}
			b.chains = append(b.chains, id)
		}
		b.spans = append(b.spans, answer{low, high, from, int32(len(b.chains))})
	}
	slices.SortStableFunc(fresh, func(x, y freshAnswer) int { return cmp.Compare(x.low, y.low) })
	var old []answer
	if a != nil && len(a.spans)+len(fresh) <= maxAnswers {
		old = a.spans
		for file, of := range a.sums {
			b.sums[file] = of
		}
	}
	var buf []profile.Frame
	end := uint64(0) // all below is answered
	for _, f := range fresh {
		for len(old) > 0 && old[0].low <= f.low {
			buf = a.append(old[0], buf[:0])
			add(old[0].low, old[0].high, buf)
			end = old[0].high
			old = old[1:]
		}
		if f.low < end || len(old) > 0 && f.high > old[0].low || len(b.spans) >= maxAnswers {
			continue // it was asked twice
		}
		add(f.low, f.high, f.frames)
		end = f.high
	}
	for _, o := range old {
		buf = a.append(o, buf[:0])
		add(o.low, o.high, buf)
	}
	for i := range b.frames {
		file := b.frames[i].File
		if _, ok := b.sums[file]; !ok && file != "" {
			if of := sums(file); len(of) > 0 {
				b.sums[file] = of
			}
		}
	}
	return b
}

// A freshAnswer is one that DWARF has given since the file was read.
type freshAnswer struct {
	low, high uint64
	frames    []profile.Frame
}

const (
	maxAnswers     = 1 << 18
	maxAnswersFile = 64 << 20  // bytes
	maxAnswersDir  = 256 << 20 // bytes of all files
	answersSuffix  = ".frames"
	answersPart    = ".frames.part"
	answersStale   = time.Hour // for files that a process left half written
)

// The layout of a file: magic, version and CRC-32C of what follows (32 bits each, little-endian), and
// then numbers as unsigned varints and strings with their length before them:
//
//	build ID
//	number of strings, strings
//	number of frames, each: function, file (strings), line, column, start line, 1 for inlined + 2 for entry
//	number of answers, each: distance of low from the high before, high-low, number of frames, frames
//	number of checksums, each: file (string), 16 bytes
//
// answersVersion changes with the layout, and whenever the same DWARF gives other frames.
const (
	answersMagic   = "SLframes"
	answersVersion = 1
	answersHead    = 16
)

// errAnswers says that a file of answers is not one that can be used.
var errAnswers = errors.New("the file is damaged, or of another version")

// encode is the content of the file of answers for a build ID.
func (a *answers) encode(buildID string) []byte {
	var b []byte
	number := func(n uint64) { b = binary.AppendUvarint(b, n) }
	text := func(s string) { number(uint64(len(s))); b = append(b, s...) }
	text(buildID)
	ids := map[string]uint64{}
	var strings []string
	id := func(s string) uint64 {
		n, ok := ids[s]
		if !ok {
			n = uint64(len(strings))
			ids[s] = n
			strings = append(strings, s)
		}
		return n
	}
	for i := range a.frames {
		id(a.frames[i].Func)
		id(a.frames[i].File)
	}
	files := make([]string, 0, len(a.sums))
	for file := range a.sums {
		files = append(files, file)
		id(file)
	}
	slices.Sort(files)
	number(uint64(len(strings)))
	for _, s := range strings {
		text(s)
	}
	number(uint64(len(a.frames)))
	for i := range a.frames {
		f := &a.frames[i]
		flags := uint64(0)
		if f.Inlined {
			flags |= 1
		}
		if f.Entry {
			flags |= 2
		}
		for _, n := range []uint64{id(f.Func), id(f.File), uint64(f.Line), uint64(f.Column), uint64(f.StartLine), flags} {
			number(n)
		}
	}
	number(uint64(len(a.spans)))
	end := uint64(0)
	for _, s := range a.spans {
		number(s.low - end)
		number(s.high - s.low)
		number(uint64(s.to - s.from))
		for _, f := range a.chains[s.from:s.to] {
			number(uint64(f))
		}
		end = s.high
	}
	n := 0
	for _, of := range a.sums {
		n += len(of)
	}
	number(uint64(n))
	for _, file := range files {
		for _, sum := range a.sums[file] {
			number(id(file))
			b = append(b, sum[:]...)
		}
	}
	return sealAnswers(b)
}

// sealAnswers puts the head of a file before its body.
func sealAnswers(body []byte) []byte {
	b := make([]byte, answersHead, answersHead+len(body))
	copy(b, answersMagic)
	binary.LittleEndian.PutUint32(b[8:], answersVersion)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(body, castagnoli))
	return append(b, body...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decodeAnswers reads the content of a file of answers for a build ID; text is that content, which the
// frames' strings are parts of.
func decodeAnswers(text, buildID string) (*answers, error) {
	b := []byte(text)
	if len(b) < answersHead || string(b[:8]) != answersMagic || binary.LittleEndian.Uint32(b[8:]) != answersVersion ||
		binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[answersHead:], castagnoli) {
		return nil, errAnswers
	}
	pos, bad := answersHead, false
	number := func() uint64 {
		n, size := binary.Uvarint(b[pos:])
		if size <= 0 {
			bad = true
			pos = len(b)
			return 0
		}
		pos += size
		return n
	}
	// count is a number of things that have at least so many bytes each.
	count := func(each int) int {
		n := number()
		if n > uint64((len(b)-pos)/each) {
			bad = true
			return 0
		}
		return int(n)
	}
	cut := func(n int) string {
		if n > len(b)-pos {
			bad = true
			return ""
		}
		pos += n
		return text[pos-n : pos]
	}
	if cut(count(1)) != buildID || bad {
		return nil, errAnswers
	}
	strings := make([]string, count(1))
	for i := range strings {
		strings[i] = cut(count(1))
	}
	index := func(n int) int {
		i := number()
		if i >= uint64(n) {
			bad = true
			return 0
		}
		return int(i)
	}
	a := &answers{frames: make([]profile.Frame, count(6)), sums: map[string][]sum{}}
	if len(strings) == 0 && len(a.frames) > 0 {
		return nil, errAnswers
	}
	for i := range a.frames {
		f := &a.frames[i]
		f.Func, f.File = strings[index(len(strings))], strings[index(len(strings))]
		f.Line, f.Column, f.StartLine = int(number()), int(number()), int(number())
		flags := number()
		f.Inlined, f.Entry = flags&1 != 0, flags&2 != 0
		if bad || f.Line < 0 || f.Column < 0 || f.StartLine < 0 {
			return nil, errAnswers
		}
	}
	a.spans = make([]answer, count(3))
	end := uint64(0)
	for i := range a.spans {
		s := &a.spans[i]
		s.low = end + number()
		s.high = s.low + number()
		s.from = int32(len(a.chains))
		n := count(1)
		if bad || s.low < end || s.high <= s.low {
			return nil, errAnswers
		}
		for range n {
			a.chains = append(a.chains, int32(index(len(a.frames))))
		}
		s.to = int32(len(a.chains))
		end = s.high
	}
	for range count(17) {
		file := index(len(strings))
		var s sum
		copy(s[:], cut(len(s)))
		if bad {
			return nil, errAnswers
		}
		a.sums[strings[file]] = append(a.sums[strings[file]], s)
	}
	if bad || pos != len(b) {
		return nil, errAnswers
	}
	return a, nil
}

// readAnswers reads the answers for a build ID that a folder has; nil where it has none that can be
// used. A damaged file is removed.
func readAnswers(dir, buildID string) *answers {
	path := filepath.Join(dir, buildID+answersSuffix)
	text, err := readOwn(path)
	if err != nil {
		return nil
	}
	a, err := decodeAnswers(text, buildID)
	if err != nil {
		os.Remove(path)
		return nil
	}
	now := time.Now()
	os.Chtimes(path, now, now) // the oldest are removed first; it is no harm if this cannot be noted
	return a
}

// readOwn reads a regular file that belongs to this user or to root.
func readOwn(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() && st.Uid != 0 || st.Size > maxAnswersFile {
		return "", errAnswers
	}
	var b strings.Builder
	b.Grow(int(st.Size))
	_, err = io.Copy(&b, io.LimitReader(file, maxAnswersFile))
	return b.String(), err
}

// writeAnswers puts a file into a folder in the place of the one for the same build ID.
func writeAnswers(dir, buildID string, a *answers) error {
	return writeKept(dir, buildID+answersSuffix, a.encode(buildID))
}

// writeKept puts a file into a folder, which is made if need be, in the place of the one that has its name,
// and removes the files that were not used for the longest time while all together have too many bytes.
func writeKept(dir, name string, b []byte) error {
	if len(b) > maxAnswersFile {
		return nil // not worth keeping
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep frames in %s: %w", dir, err)
	}
	path := filepath.Join(dir, name)
	shrinkAnswers(dir, maxAnswersDir-int64(len(b)), path)
	f, err := os.CreateTemp(dir, "*"+answersPart) // 0600
	if err != nil {
		return fmt.Errorf("keep frames in %s: %w", dir, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keep frames in %s: %w", dir, err)
	}
	return nil
}

// shrinkAnswers removes the oldest files until they have at most limit bytes; replaced counts as removed.
func shrinkAnswers(dir string, limit int64, replaced string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	sum := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		switch name := e.Name(); {
		case strings.HasSuffix(name, answersPart):
			if time.Since(info.ModTime()) > answersStale {
				os.Remove(filepath.Join(dir, name))
			}
		case strings.HasSuffix(name, answersSuffix) && filepath.Join(dir, name) != replaced:
			files = append(files, info)
			sum += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		if sum <= limit {
			return
		}
		if os.Remove(filepath.Join(dir, f.Name())) == nil {
			sum -= f.Size()
		}
	}
}
