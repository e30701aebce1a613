package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// List is the Meta of every capture, newest first. It reads no samples. A capture whose own record
// is damaged is listed with its ID and a warning, so that it can be removed.
func (s *Store) List() ([]Meta, error) {
	var metas []Meta
	err := s.view("list the captures of", func(tx *bolt.Tx) error {
		var err error
		metas, err = s.metas(tx)
		if err != nil {
			return err
		}
		return addFiles(tx, metas)
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(metas)
	return metas, nil
}

// ids lists the ids of all captures, oldest first.
func (s *Store) ids() ([]ID, error) {
	var ids []ID
	err := s.view("list the captures of", func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).ForEach(func(k, _ []byte) error {
			ids = append(ids, ID(k))
			return nil
		})
	})
	return ids, err
}

// metas is the bucket meta, oldest first, without Files.
func (s *Store) metas(tx *bolt.Tx) ([]Meta, error) {
	var metas []Meta
	now := s.now()
	snapshots := snapshotRows(tx)
	err := tx.Bucket(bucketMeta).ForEach(func(k, v []byte) error {
		m, err := decodeMeta(ID(k), v)
		if err != nil {
			m.Warnings = []profile.Warning{{
				Kind: profile.WarnUnreadable,
				Text: fmt.Sprintf("What the store knows of this capture is damaged (%v); remove it.", err),
			}}
		}
		m.Recording = m.recording(now)
		m.Snapshot = snapshots[m.ID]
		metas = append(metas, m)
		return nil
	})
	return metas, err
}

// addFiles sets Files. Metas share the strings.
func addFiles(tx *bolt.Tx, metas []Meta) error {
	all, err := readSources(tx)
	if err != nil || len(all) == 0 {
		return err
	}
	// A thousand captures name hundreds of files each, so a table is worth its code.
	first, last := ^uint64(0), uint64(0)
	for n := range all {
		first, last = min(first, n), max(last, n)
	}
	find := func(n uint64) (FileMeta, bool) {
		x, ok := all[n]
		return FileMeta{x.path, x.local}, ok
	}
	if last-first < 16*uint64(len(all))+1<<12 {
		table := make([]FileMeta, last-first+1)
		known := make([]bool, len(table))
		for n, x := range all {
			table[n-first], known[n-first] = FileMeta{x.path, x.local}, true
		}
		find = func(n uint64) (FileMeta, bool) {
			if n -= first; n < uint64(len(table)) {
				return table[n], known[n]
			}
			return FileMeta{}, false
		}
	}
	for i := range metas {
		m := &metas[i]
		if len(m.sources) == 0 {
			continue
		}
		m.Files = make([]FileMeta, 0, len(m.sources))
		for _, n := range m.sources {
			if f, ok := find(n); ok {
				m.Files = append(m.Files, f)
			}
		}
	}
	return nil
}

// meta reads one capture's Meta, without Files.
func (s *Store) meta(verb string, tx *bolt.Tx, id ID) (Meta, error) {
	record := tx.Bucket(bucketMeta).Get([]byte(id))
	if record == nil {
		return Meta{}, s.noCapture(verb, id)
	}
	m, err := decodeMeta(id, record)
	if err != nil {
		return m, s.damagedCapture(verb, id, err)
	}
	m.Recording = m.recording(s.now())
	m.Snapshot = snapshotRows(tx)[id]
	return m, nil
}

func (s *Store) noCapture(verb string, id ID) error {
	return fail(ErrNoCapture, nil, "%s %s: the store has no capture %s; list the captures to see what there is", verb, s.path, id)
}

func (s *Store) damagedCapture(verb string, id ID, err error) error {
	return fail(ErrDamaged, err, "%s %s: capture %s is damaged (%v); the other captures are not concerned: remove this one", verb, s.path, id, err)
}

// LoadMeta is the Meta of one capture. The error wraps ErrNoCapture or ErrDamaged.
func (s *Store) LoadMeta(id ID) (Meta, error) {
	const verb = "read a capture of"
	m, found := Meta{}, false
	err := s.view(verb, func(tx *bolt.Tx) error {
		var err error
		if m, err = s.meta(verb, tx, id); err != nil {
			return err
		}
		found = true
		one := []Meta{m}
		err = addFiles(tx, one)
		m = one[0]
		return err
	})
	if err == nil && !found {
		err = s.noCapture(verb, id)
	}
	return m, err
}

// Load is a whole capture, with the texts of its sources. It has passed Capture.Check, and nobody
// else holds its memory. One that was interrupted, or is being recorded, goes as far as its last
// flush, has Interrupted set and a warning that says so. The error wraps ErrNoCapture or ErrDamaged.
func (s *Store) Load(id ID) (*profile.Capture, error) { return s.load(id, true) }

// LoadWithoutSources is Load without reading megabytes of text: Symbols.Sources are all there, each
// with Text nil. Source has the text of one.
func (s *Store) LoadWithoutSources(id ID) (*profile.Capture, error) { return s.load(id, false) }

// raw is what a capture is made of, copied out of the file so that decoding needs no lock.
type raw struct {
	meta    Meta
	found   bool
	chunks  [][]byte
	symbols []byte // nil if there are none yet
	sources []source
	texts   [][]byte // records, as sources; nil where there is no text, or none was asked for
}

func (s *Store) read(verb string, id ID, texts bool) (raw, error) {
	var r raw
	err := s.view(verb, func(tx *bolt.Tx) error {
		var err error
		if r.meta, err = s.meta(verb, tx, id); err != nil {
			return err
		}
		r.found = true
		b := tx.Bucket(bucketCaptures).Bucket([]byte(id))
		if b == nil {
			return s.damagedCapture(verb, id, errors.New("its content is missing"))
		}
		for n := 0; ; n++ {
			v := b.Get(chunkKey(n))
			if v == nil {
				break
			}
			r.chunks = append(r.chunks, bytes.Clone(v))
		}
		r.symbols = bytes.Clone(b.Get(keySymbols))
		for _, n := range r.meta.sources {
			x, err := decodeSource(tx.Bucket(bucketSources).Get(sourceKey(n)))
			if err != nil {
				return s.damagedCapture(verb, id, fmt.Errorf("source %d: %w", n, err))
			}
			r.sources = append(r.sources, x)
			var text []byte
			if texts && x.hasText {
				text = bytes.Clone(tx.Bucket(bucketTexts).Get(x.hash[:]))
				if text == nil {
					return s.damagedCapture(verb, id, fmt.Errorf("the text of %s is missing", x.path))
				}
			}
			r.texts = append(r.texts, text)
		}
		return nil
	})
	if err == nil && !r.found {
		err = s.noCapture(verb, id)
	}
	return r, err
}

func (s *Store) load(id ID, texts bool) (*profile.Capture, error) {
	const verb = "read a capture of"
	r, err := s.read(verb, id, texts)
	if err != nil {
		return nil, err
	}
	c, err := r.decode()
	if err != nil {
		return nil, s.damagedCapture(verb, id, err)
	}
	return c, nil
}

func (r *raw) decode() (*profile.Capture, error) {
	c := r.meta.capture()
	var symbols profile.Symbols
	var symbolsErr error
	// The symbols take about as long as all else, and depend on nothing else.
	var wait sync.WaitGroup
	if r.symbols != nil {
		wait.Go(func() { symbols, symbolsErr = decodeSymbols(r.symbols) })
	}
	at, chunkErr := start(), error(nil)
	for i, record := range r.chunks {
		if err := decodeChunk(c, &at, record); err != nil {
			chunkErr = fmt.Errorf("chunk %d: %w", i, err)
			break
		}
	}
	sources, sourceErr := r.decodeSources()
	wait.Wait()
	if err := errors.Join(chunkErr, symbolsErr, sourceErr); err != nil {
		return nil, err
	}
	c.Symbols = symbols
	c.Symbols.Sources = sources
	for i, k := range r.meta.Kinds {
		if i >= len(c.Series) || c.Series[i].Kind != k.Kind || c.Series[i].Samples.Len() != k.Samples {
			return nil, fmt.Errorf("%w: samples of kind %s are missing", errRecord, k.Kind)
		}
	}
	if c.Interrupted {
		r.warnInterrupted(c)
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}

// warnInterrupted tells why there is no more, once: what is stored again after it was read has the
// warning already.
func (r *raw) warnInterrupted(c *profile.Capture) {
	for _, w := range c.Warnings {
		if w.Kind == profile.WarnInterrupted {
			return
		}
	}
	if r.meta.Recording {
		c.Warn(profile.WarnInterrupted, 0, "The capture is being recorded: what is here ends at its last flush.")
		return
	}
	c.Warn(profile.WarnInterrupted, 0, "The recorder died: what is here ends at its last flush, at most a second before.")
}

func (r *raw) decodeSources() ([]profile.Source, error) {
	if len(r.sources) == 0 {
		return nil, nil
	}
	out := make([]profile.Source, len(r.sources))
	for i, x := range r.sources {
		out[i] = profile.Source{Path: x.path, Local: x.local, Note: x.note}
		if r.texts[i] == nil {
			continue
		}
		text, err := decodeText(r.texts[i])
		if err != nil {
			return nil, fmt.Errorf("text of %s: %w", x.path, err)
		}
		out[i].Text = text
	}
	return out, nil
}

// ErrNoSource says that a capture's frames name no such file.
var ErrNoSource = errors.New("the capture has no such source")

// Source is one of a capture's sources, with its text. path is Source.Path. The error wraps
// ErrNoCapture, ErrNoSource or ErrDamaged.
func (s *Store) Source(id ID, path string) (profile.Source, error) {
	const verb = "read a source of"
	var r raw
	found := false
	err := s.view(verb, func(tx *bolt.Tx) error {
		m, err := s.meta(verb, tx, id)
		if err != nil {
			return err
		}
		found = true
		for _, n := range m.sources {
			x, err := decodeSource(tx.Bucket(bucketSources).Get(sourceKey(n)))
			if err != nil {
				return s.damagedCapture(verb, id, fmt.Errorf("source %d: %w", n, err))
			}
			if x.path == path {
				r.sources, r.texts = []source{x}, [][]byte{nil}
				if x.hasText {
					r.texts[0] = bytes.Clone(tx.Bucket(bucketTexts).Get(x.hash[:]))
					if r.texts[0] == nil {
						return s.damagedCapture(verb, id, fmt.Errorf("the text of %s is missing", x.path))
					}
				}
				return nil
			}
		}
		return fail(ErrNoSource, nil, "%s %s: no frame of capture %s lies in %s; the capture's files are listed with it", verb, s.path, id, path)
	})
	if err == nil && !found {
		err = s.noCapture(verb, id)
	}
	if err != nil {
		return profile.Source{}, err
	}
	out, err := r.decodeSources()
	if err != nil {
		return profile.Source{}, s.damagedCapture(verb, id, err)
	}
	return out[0], nil
}

// A Token stands for a state of the file. Two are equal, by ==, if nothing was stored, removed or
// changed between them. The zero Token is a store without a file.
type Token struct {
	device, inode uint64
	txid          uint64
	modified      int64
}

// Changed is a Token of the file as it is now, for noticing that any process has committed. It
// takes no lock and a few system calls, so it may be asked often.
func (s *Store) Changed() (Token, error) {
	f, err := s.openFile("look at", false)
	if err == errNoStore {
		return Token{}, nil
	}
	if err != nil {
		return Token{}, err
	}
	defer f.Close()
	var t Token
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Token{}, s.explain("look at", err)
	}
	t.device, t.inode, t.modified = st.Dev, st.Ino, st.Mtim.Nano()
	if st.Size == 0 {
		return Token{}, nil
	}
	// The time of change is too coarse to tell two commits of one tick apart; bbolt's number of
	// transactions is exact, but begins again when the file is compacted. A page that is torn
	// because it is being written does not count, and its transaction will be seen next time.
	h, err := readBoltHeader(f)
	if err != nil {
		return Token{}, s.foreign("look at", err)
	}
	t.txid = h.txid
	return t, nil
}

// Newest is the newest finished capture whose Files hold a file with this local path.
func Newest(metas []Meta, local string) (ID, bool) {
	for i := range metas {
		m := &metas[i]
		if m.Recording || strings.TrimSpace(local) == "" {
			continue
		}
		for _, f := range m.Files {
			if f.Local == local {
				return m.ID, true
			}
		}
	}
	return "", false
}
