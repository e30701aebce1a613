package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A Writer puts a capture into the store while it is being recorded. Until Finish the capture is
// marked as interrupted, so that a recorder that dies leaves a capture up to its last Flush.
//
// A Writer may be used by several goroutines. It holds nothing that needs closing; end it with Finish
// or Discard.
type Writer struct {
	s *Store

	mu       sync.Mutex // guards what follows, and is held while a method works
	meta     Meta
	at       marks
	chunks   int
	mappings []profile.Mapping // as stored
	ended    bool
}

// Begin stores what c has so far and lets it grow from there. c is only read, and only before Begin
// returns.
func (s *Store) Begin(c *profile.Capture) (*Writer, error) {
	const verb = "store a capture in"
	w := &Writer{s: s, at: start(), mappings: make([]profile.Mapping, 1)}
	w.meta = metaOf(c)
	w.meta.writer = self()
	n, err := w.next(c)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", verb, s.path, err)
	}
	err = s.update(verb, func(tx *bolt.Tx) error {
		n.meta.ID = s.newID(tx)
		if _, err := tx.Bucket(bucketCaptures).CreateBucket([]byte(n.meta.ID)); err != nil {
			return err
		}
		return w.put(tx, n)
	})
	if err != nil {
		return nil, err
	}
	w.commit(n)
	return w, nil
}

// newID is an id later than all.
func (s *Store) newID(tx *bolt.Tx) ID {
	newest, _ := tx.Bucket(bucketMeta).Cursor().Last()
	return nextID(ID(newest), s.now())
}

// ID is the capture's id.
func (w *Writer) ID() ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.meta.ID
}

// growth is what a Flush is about to store, and what w is after it was.
type growth struct {
	meta     Meta
	at       marks
	chunk    []byte // nil if no table has grown
	mappings []profile.Mapping
}

// next encodes what c has grown by.
func (w *Writer) next(c *profile.Capture) (growth, error) {
	if err := w.at.shrunk(c); err != nil {
		return growth{}, fmt.Errorf("the capture is not the one that was begun: %w", err)
	}
	if len(c.Series) > maxSeries {
		return growth{}, fmt.Errorf("the capture has %d series and at most %d can be stored", len(c.Series), maxSeries)
	}
	g := growth{meta: w.meta, mappings: slices.Clone(c.Mappings)}
	g.at, _ = marksOf(c, w.at, math.MaxInt)
	var changed []profile.MappingID
	for i := range w.mappings {
		if c.Mappings[i] != w.mappings[i] {
			changed = append(changed, profile.MappingID(i))
		}
	}
	if len(changed) > 0 || !g.at.equal(w.at) {
		g.chunk = encodeChunk(c, w.at, g.at, changed, nil)
		g.meta.Bytes += int64(len(g.chunk))
	}
	m := &g.meta
	m.Target, m.Engine, m.Machine, m.Start, m.Length = c.Target, c.Engine, c.Machine, c.Start, c.Length
	m.Warnings = slices.Clone(c.Warnings)
	m.Stacks, m.Locations = c.Stacks.Len()-1, len(c.Locations)-1
	m.Interrupted, m.Imported = true, c.Imported
	m.flushed = w.s.now()
	m.Kinds = nil
	for i := range c.Series {
		s := &c.Series[i]
		k := KindMeta{Kind: s.Kind, Unit: s.Unit, Period: s.Period}
		begin := 0
		if i < len(w.at.samples) {
			begin, k = w.at.samples[i], w.meta.Kinds[i]
		}
		added := s.Samples.Slice(begin, s.Samples.Len())
		sum := added.Sum()
		k.Samples, k.Count, k.Weight = begin+added.Len(), k.Count+sum.Count, k.Weight+sum.Weight
		m.Kinds = append(m.Kinds, k)
	}
	return g, nil
}

func (m marks) equal(o marks) bool {
	return m.tasks == o.tasks && m.mappings == o.mappings && m.locations == o.locations &&
		m.stacks == o.stacks && slices.Equal(m.samples, o.samples)
}

// put stores g in the bucket of its id.
func (w *Writer) put(tx *bolt.Tx, g growth) error {
	b := tx.Bucket(bucketCaptures).Bucket([]byte(g.meta.ID))
	if b == nil {
		return w.s.noCapture("go on storing in", g.meta.ID)
	}
	if g.chunk != nil {
		if err := b.Put(chunkKey(w.chunks), g.chunk); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketMeta).Put([]byte(g.meta.ID), g.meta.encode())
}

func (w *Writer) commit(g growth) {
	w.meta, w.at, w.mappings = g.meta, g.at, g.mappings
	if g.chunk != nil {
		w.chunks++
	}
}

// Flush stores what c has grown by since the last Flush, in one transaction. c is the capture of
// Begin, or a View of it: its tables have only grown, but for mappings that have become better known
// and warnings. It is only read, and only before Flush returns.
//
// After an error the next Flush stores what this one could not. The error wraps ErrNoCapture if the
// capture was removed meanwhile, and ErrFull if the disk is full; what was flushed before stays.
func (w *Writer) Flush(c *profile.Capture) error {
	const verb = "go on storing in"
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return fmt.Errorf("%s %s: capture %s has been finished or discarded", verb, w.s.path, w.meta.ID)
	}
	g, err := w.next(c)
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, w.s.path, err)
	}
	if g.chunk == nil && slices.Equal(g.meta.Warnings, w.meta.Warnings) && g.meta.flushed.Sub(w.meta.flushed) < heartbeat {
		return nil
	}
	err = w.s.update(verb, func(tx *bolt.Tx) error {
		if err := w.keep(verb, tx, &g.meta); err != nil {
			return err
		}
		return w.put(tx, g)
	})
	if err == nil {
		w.commit(g)
	}
	return err
}

// keep takes over what others may have changed in the stored Meta.
func (w *Writer) keep(verb string, tx *bolt.Tx, m *Meta) error {
	old, err := w.s.meta(verb, tx, m.ID)
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	m.Pinned, m.Note = old.Pinned, old.Note
	return err
}

// Finish stores the whole of c, which is the capture of Begin, symbolized, in its final form, and
// ends w. It makes room for it: see Options.Budget and Meta.Pruned. Interrupted is what c says.
//
// If Finish fails the capture stays as it was flushed, and Finish may be called again.
func (w *Writer) Finish(c *profile.Capture) (Meta, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return Meta{}, fmt.Errorf("finish a capture in %s: capture %s has been finished or discarded", w.s.path, w.meta.ID)
	}
	m, err := w.s.replace(w.meta.ID, c, nil)
	if err == nil {
		w.ended = true
	}
	return m, err
}

// Discard removes the capture and ends w. It is no error if somebody has removed it before.
func (w *Writer) Discard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	const verb = "discard a capture in"
	err := w.s.update(verb, func(tx *bolt.Tx) error { return w.s.remove(verb, tx, []ID{w.meta.ID}, true) })
	if errors.Is(err, ErrNoCapture) {
		err = nil
	}
	w.ended = err == nil
	return err
}

// Put stores a finished capture under a new id, and makes room for it: see Options.Budget and
// Meta.Pruned. c is only read.
func (s *Store) Put(c *profile.Capture) (Meta, error) { return s.replace("", c, nil) }

// Replace stores c in place of a capture, which keeps its id, note and pin: with better symbols, or
// to finish one that was interrupted. The error wraps ErrNoCapture, or ErrRecording while another
// process writes the capture.
func (s *Store) Replace(id ID, c *profile.Capture) (Meta, error) {
	m, err := s.LoadMeta(id)
	if err == nil && m.Recording {
		return Meta{}, s.recording("replace a capture of", &m)
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return Meta{}, err
	}
	return s.replace(id, c, nil)
}

func (s *Store) recording(verb string, m *Meta) error {
	return fail(ErrRecording, nil, "%s %s: capture %s is being recorded by process %d; stop that first", verb, s.path, m.ID, m.writer.pid)
}

// replace stores c in its final form; id "" is a new one. Also runs in the transaction, if it is given.
func (s *Store) replace(id ID, c *profile.Capture, also func(*bolt.Tx, ID) error) (Meta, error) {
	const verb = "store a capture in"
	if err := c.Check(); err != nil {
		return Meta{}, fmt.Errorf("%s %s: %w", verb, s.path, err)
	}
	if len(c.Series) > maxSeries {
		return Meta{}, fmt.Errorf("%s %s: the capture has %d series and at most %d can be stored", verb, s.path, len(c.Series), maxSeries)
	}
	m := metaOf(c)
	m.ID = id

	// All that takes long is done before the store is locked.
	sources := newSourceSet(c.Symbols.Sources)
	known := make(map[[sha256.Size]byte]bool)
	err := s.view(verb, func(tx *bolt.Tx) error {
		for hash := range sources.texts {
			known[hash] = tx.Bucket(bucketTexts).Get(hash[:]) != nil
		}
		return nil
	})
	if err != nil {
		return Meta{}, err
	}
	var chunks [][]byte
	var symbols []byte
	var wait sync.WaitGroup
	wait.Go(func() {
		symbols = encodeSymbols(&c.Symbols)
		sources.pack(func(hash [sha256.Size]byte) bool { return known[hash] })
	})
	for at, all := start(), false; !all; {
		var to marks
		to, all = marksOf(c, at, chunkSamples)
		chunks = append(chunks, encodeChunk(c, at, to, nil, nil))
		at = to
	}
	wait.Wait()

	for _, r := range chunks {
		m.Bytes += int64(len(r))
	}
	m.Bytes += int64(len(symbols))
	for i := range c.Symbols.Sources {
		m.Files = append(m.Files, FileMeta{c.Symbols.Sources[i].Path, c.Symbols.Sources[i].Local})
	}

	err = s.with(verb, true, func(db *bolt.DB) error {
		err := s.updateIn(db, verb, func(tx *bolt.Tx) error {
			if id == "" {
				m.ID = s.newID(tx)
			} else if old, err := s.meta(verb, tx, id); err == nil {
				m.Pinned, m.Note = old.Pinned, old.Note
			} else if !errors.Is(err, ErrDamaged) {
				return err
			}
			if err := s.putFinal(tx, &m, chunks, symbols, sources); err != nil || also == nil {
				return err
			}
			if err := also(tx, m.ID); err != nil {
				return err
			}
			m.Snapshot = snapshotRows(tx)[m.ID]
			return nil
		})
		if err != nil {
			return err
		}
		// What was stored is stored, whatever happens now.
		m.Pruned = s.prune(db, m.ID)
		s.compactIfEmpty(db)
		return nil
	})
	if err != nil {
		return Meta{}, err
	}
	return m, nil
}

func (s *Store) putFinal(tx *bolt.Tx, m *Meta, chunks [][]byte, symbols []byte, sources *sourceSet) error {
	captures := tx.Bucket(bucketCaptures)
	key := []byte(m.ID)
	if captures.Bucket(key) != nil {
		if err := captures.DeleteBucket(key); err != nil {
			return err
		}
	}
	b, err := captures.CreateBucket(key)
	if err != nil {
		return err
	}
	for i, r := range chunks {
		if err := b.Put(chunkKey(i), r); err != nil {
			return err
		}
	}
	if err := b.Put(keySymbols, symbols); err != nil {
		return err
	}
	before := []uint64(nil)
	if old, err := decodeMeta(m.ID, tx.Bucket(bucketMeta).Get(key)); err == nil {
		before = old.sources
	}
	if m.sources, err = sources.put(tx); err != nil {
		return err
	}
	if err := tx.Bucket(bucketMeta).Put(key, m.encode()); err != nil {
		return err
	}
	if len(before) == 0 {
		return nil
	}
	metas, err := s.metas(tx)
	if err != nil {
		return err
	}
	return sweepSources(tx, metas)
}

// Remove removes captures, all or none. The error wraps ErrNoCapture or ErrRecording.
func (s *Store) Remove(ids ...ID) error {
	const verb = "remove a capture of"
	err := s.exists(verb)
	if err != nil {
		return err
	}
	return s.with(verb, true, func(db *bolt.DB) error {
		err := s.updateIn(db, verb, func(tx *bolt.Tx) error { return s.remove(verb, tx, ids, false) })
		if err == nil {
			s.dropSnapshots(ids)
			s.compactIfEmpty(db)
		}
		return err
	})
}

// exists refuses to make a store only to find nothing in it.
func (s *Store) exists(verb string) error {
	found := false
	err := s.view(verb, func(*bolt.Tx) error { found = true; return nil })
	if err == nil && !found {
		err = fail(ErrNoCapture, nil, "%s %s: the store has no captures; record one first", verb, s.path)
	}
	return err
}

// remove removes captures and what only they named. live are removed too if force is set.
func (s *Store) remove(verb string, tx *bolt.Tx, ids []ID, force bool) error {
	gone := make(map[ID]bool, len(ids))
	for _, id := range ids {
		m, err := s.meta(verb, tx, id)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if m.Recording && !force {
			return s.recording(verb, &m)
		}
		gone[id] = true
	}
	captures := tx.Bucket(bucketCaptures)
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		if captures.Bucket([]byte(id)) != nil {
			if err := captures.DeleteBucket([]byte(id)); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketMeta).Delete([]byte(id)); err != nil {
			return err
		}
	}
	if err := forgetSnapshots(tx, gone); err != nil {
		return err
	}
	metas, err := s.metas(tx)
	if err != nil {
		return err
	}
	return sweepSources(tx, metas)
}

// Pin protects a capture from being removed to make room, or no longer.
func (s *Store) Pin(id ID, pinned bool) error {
	return s.change("pin a capture of", id, func(m *Meta) { m.Pinned = pinned })
}

// SetNote keeps a person's words with a capture.
func (s *Store) SetNote(id ID, note string) error {
	return s.change("note on a capture of", id, func(m *Meta) { m.Note = note })
}

func (s *Store) change(verb string, id ID, change func(*Meta)) error {
	if err := s.exists(verb); err != nil {
		return err
	}
	return s.update(verb, func(tx *bolt.Tx) error {
		m, err := s.meta(verb, tx, id)
		if err != nil {
			return err
		}
		change(&m)
		return tx.Bucket(bucketMeta).Put([]byte(id), m.encode())
	})
}
