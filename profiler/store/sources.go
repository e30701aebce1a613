package store

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
	bolt "go.etcd.io/bbolt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A source is stored once for all captures in which it is the same: a number in bucket sources
// stands for path, local path, note and text. The text in turn is stored once, under its SHA-256,
// for all sources that have it.
type source struct {
	path, local, note string
	hasText           bool
	hash              [sha256.Size]byte // of the text; zero without
}

func sourceOf(s *profile.Source) source {
	x := source{path: s.Path, local: s.Local, note: s.Note, hasText: s.Text != nil}
	if x.hasText {
		x.hash = sha256.Sum256(s.Text)
	}
	return x
}

func (x source) encode() []byte {
	e := &encoder{}
	e.string(x.path)
	e.string(x.local)
	e.string(x.note)
	e.bool(x.hasText)
	if x.hasText {
		e.b = append(e.b, x.hash[:]...)
	}
	return e.seal(recordSource)
}

func decodeSource(record []byte) (source, error) {
	d, err := unseal(recordSource, record)
	if err != nil {
		return source{}, err
	}
	x := source{path: d.string(), local: d.string(), note: d.string(), hasText: d.bool()}
	if x.hasText {
		copy(x.hash[:], d.take(sha256.Size))
	}
	return x, d.done()
}

// encodeText is quick, since a recording's end waits for it, and a first one brings megabytes: three
// times as fast as the default level, for 6 percent more bytes of Go sources.
func encodeText(text []byte) []byte {
	e := &encoder{level: zstd.SpeedFastest}
	e.bytes(text)
	return e.seal(recordText)
}

func decodeText(record []byte) ([]byte, error) {
	d, err := unseal(recordText, record)
	if err != nil {
		return nil, err
	}
	text := d.bytes()
	return text, d.done()
}

func sourceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// readSources is the bucket sources. Damaged entries are left out, so that they are in the way of
// nothing but the captures that name them.
func readSources(tx *bolt.Tx) (map[uint64]source, error) {
	all := make(map[uint64]source)
	err := tx.Bucket(bucketSources).ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			return nil
		}
		if x, err := decodeSource(v); err == nil {
			all[binary.BigEndian.Uint64(k)] = x
		}
		return nil
	})
	return all, err
}

// A sourceSet is the sources of a capture on their way into the store.
type sourceSet struct {
	sources []source
	texts   map[[sha256.Size]byte][]byte // not compressed
	packed  map[[sha256.Size]byte][]byte // records, of the texts that were not in the store
}

func newSourceSet(sources []profile.Source) *sourceSet {
	set := &sourceSet{
		texts:  make(map[[sha256.Size]byte][]byte),
		packed: make(map[[sha256.Size]byte][]byte),
	}
	for i := range sources {
		x := sourceOf(&sources[i])
		set.sources = append(set.sources, x)
		if x.hasText {
			set.texts[x.hash] = sources[i].Text
		}
	}
	return set
}

// pack compresses what the store lacks, so that it need not be done while the store is locked.
// What is missing although known says it is there will be compressed by put.
func (set *sourceSet) pack(known func(hash [sha256.Size]byte) bool) {
	for hash, text := range set.texts {
		if !known(hash) {
			set.packed[hash] = encodeText(text)
		}
	}
}

// put stores what is not stored yet and returns the numbers of the sources, in their order.
func (set *sourceSet) put(tx *bolt.Tx) ([]uint64, error) {
	if len(set.sources) == 0 {
		return nil, nil
	}
	all, err := readSources(tx)
	if err != nil {
		return nil, err
	}
	number := make(map[source]uint64, len(all))
	for n, x := range all {
		number[x] = n
	}
	b, texts := tx.Bucket(bucketSources), tx.Bucket(bucketTexts)
	for hash, text := range set.texts {
		if texts.Get(hash[:]) != nil {
			continue
		}
		record, ok := set.packed[hash]
		if !ok {
			record = encodeText(text)
		}
		if err := texts.Put(hash[:], record); err != nil {
			return nil, err
		}
	}
	numbers := make([]uint64, len(set.sources))
	for i, x := range set.sources {
		n, ok := number[x]
		if !ok {
			if n, err = b.NextSequence(); err != nil {
				return nil, err
			}
			number[x] = n
			if err := b.Put(sourceKey(n), x.encode()); err != nil {
				return nil, err
			}
		}
		numbers[i] = n
	}
	return numbers, nil
}

// sweepSources removes the sources and texts that none of metas names, after something was removed.
func sweepSources(tx *bolt.Tx, metas []Meta) error {
	used := make(map[uint64]bool)
	for i := range metas {
		for _, n := range metas[i].sources {
			used[n] = true
		}
	}
	all, err := readSources(tx)
	if err != nil {
		return err
	}
	keep := make(map[[sha256.Size]byte]bool)
	for n, x := range all {
		if used[n] && x.hasText {
			keep[x.hash] = true
		}
	}
	b, texts := tx.Bucket(bucketSources), tx.Bucket(bucketTexts)
	for n, x := range all {
		if used[n] {
			continue
		}
		if err := b.Delete(sourceKey(n)); err != nil {
			return err
		}
		if x.hasText && !keep[x.hash] {
			if err := texts.Delete(x.hash[:]); err != nil {
				return err
			}
		}
	}
	return nil
}
