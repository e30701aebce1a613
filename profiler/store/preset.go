package store

import (
	"errors"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// A Preset is a text that a person keeps under a name beside the captures: the filter of a stack
// view. The store does not know what it means.
type Preset struct {
	Name string
	Text string
}

// ErrNoPreset says that no preset has a name.
var ErrNoPreset = errors.New("no such preset")

// Bounds of a preset.
const (
	maxPresetName = 100
	maxPresetText = 64 << 10
)

// Presets are all presets, ordered by name.
func (s *Store) Presets() ([]Preset, error) {
	const verb = "read the presets of"
	var all []Preset
	err := s.view(verb, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketPresets)
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, record []byte) error {
			text, err := decodePreset(record)
			if err != nil {
				return s.damaged(verb, fmt.Errorf("preset %q: %w", name, err))
			}
			all = append(all, Preset{string(name), text})
			return nil
		})
	})
	return all, err
}

// SetPreset keeps a preset, in place of one of the same name.
func (s *Store) SetPreset(p Preset) error {
	switch {
	case strings.TrimSpace(p.Name) != p.Name || p.Name == "":
		return fmt.Errorf("save preset %q: a name does not begin or end with a blank and is not empty; give another", p.Name)
	case len(p.Name) > maxPresetName:
		return fmt.Errorf("save preset %.20q…: its name has %d bytes and may have %d; give a shorter one", p.Name, len(p.Name), maxPresetName)
	case len(p.Text) > maxPresetText:
		return fmt.Errorf("save preset %q: it has %d bytes and may have %d; give shorter patterns", p.Name, len(p.Text), maxPresetText)
	}
	return s.update("save a preset in", func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketPresets)
		if err != nil {
			return err
		}
		e := &encoder{}
		e.string(p.Text)
		return b.Put([]byte(p.Name), e.seal(recordPreset))
	})
}

// RemovePreset forgets a preset. The error wraps ErrNoPreset where there is none of that name.
func (s *Store) RemovePreset(name string) error {
	const verb = "remove a preset from"
	if err := s.exists(verb); err != nil {
		return fail(ErrNoPreset, err, "remove preset %q: %s has no presets; `sightline presets` lists those there are", name, s.path)
	}
	return s.update(verb, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketPresets)
		if b == nil || name == "" || b.Get([]byte(name)) == nil {
			return fail(ErrNoPreset, nil, "remove preset %q: %s has none of that name; `sightline presets` lists those there are", name, s.path)
		}
		return b.Delete([]byte(name))
	})
}

func decodePreset(record []byte) (string, error) {
	d, err := unseal(recordPreset, record)
	if err != nil {
		return "", err
	}
	text := d.string()
	return text, d.done()
}

// checkPresets verifies the records of presets.
func checkPresets(tx *bolt.Tx, p *problems) {
	b := tx.Bucket(bucketPresets)
	if b == nil {
		return
	}
	_ = b.ForEach(func(name, record []byte) error {
		if _, err := decodePreset(record); err != nil {
			p.add("preset %q: %w", name, err)
		}
		return nil
	})
}
