package convert

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// sniffLen is how much of a file the sniffers see.
	sniffLen = 64 << 10
	// defaultLimit of decompressed bytes.
	defaultLimit = 8 << 30
	// A compressed file may grow to slack + ratio × its size. Profiles shrink ten- to hundredfold;
	// zstd could express 30,000.
	expandRatio = 300
	expandSlack = 8 << 20
	// zstdWindow is the greatest that zstd --long makes without a further argument, which is also
	// the greatest that its command line decompresses unasked.
	zstdWindow = 128 << 20
	// layers of compression that are seen through: a .gz in a .zip, but no deeper.
	maxLayers = 2
)

// An input is the decompressed bytes of a file, read once from beginning to end.
//
// Read fails once the context has ended, once the limit is passed, and with io.ErrUnexpectedEOF where
// a compressed file ends early.
type input struct {
	head []byte // the first sniffLen bytes, which Read gives again
	// early says that the file ends, compressed, within the head.
	early bool

	ctx     context.Context
	r       *bufio.Reader // decompressed, decoded
	n       int64         // bytes that Read gave
	limit   int64
	whole   io.ReaderAt // the plain file itself, where it is one
	size    int64       // of whole
	raw     *counter    // compressed bytes; nil where the input is plain
	closers []func()
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// open sees through compression and text encodings and reads the head.
func open(ctx context.Context, r io.Reader, limit int64) (*input, error) {
	if limit <= 0 {
		limit = defaultLimit
	}
	in := &input{ctx: ctx, limit: limit}
	if f, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		// A pipe is an *os.File too, and cannot seek.
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			if end, err := f.Seek(0, io.SeekEnd); err == nil {
				in.whole, in.size = io.NewSectionReader(f, at, max(end-at, 0)), max(end-at, 0)
			}
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
	in.r = bufio.NewReaderSize(r, sniffLen)
	packed := ""
	for layer := 0; ; layer++ {
		head, err := in.r.Peek(8)
		if err != nil && len(head) == 0 && err != io.EOF {
			in.close()
			return nil, endsEarly(packed, err)
		}
		name, unpack := compressionOf(head)
		if unpack == nil {
			break
		}
		if layer == maxLayers {
			in.close()
			return nil, fmt.Errorf("it is %s within compressed files; unpack it first", name)
		}
		if err := unpack(in); err != nil {
			in.close()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fmt.Errorf("the file ends early: it is %s and ends within its first bytes; get it whole", name)
			}
			if errors.Is(err, zip.ErrFormat) {
				err = errors.New("its table of files, which is the last thing in a zip, is missing; the file ends early or is damaged")
			}
			return nil, fmt.Errorf("unpack it as %s: %w", name, err)
		}
		packed = name
		in.whole = nil
	}
	in.decode()
	head, err := in.r.Peek(sniffLen)
	if err != nil && len(head) == 0 && err != io.EOF {
		in.close()
		return nil, endsEarly(packed, err)
	}
	in.early = errors.Is(err, io.ErrUnexpectedEOF)
	in.head = bytes.Clone(head)
	return in, ctx.Err()
}

// endsEarly says so of a compressed file of which nothing could be unpacked.
func endsEarly(packed string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends early: nothing can be unpacked of what there is of its %s data; get it whole", packed)
	}
	return err
}

func (in *input) close() {
	for _, f := range in.closers {
		f()
	}
	in.closers = nil
}

// Read is the io.Reader of the decompressed bytes.
func (in *input) Read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := in.r.Read(p)
	in.n += int64(n)
	switch {
	case in.n > in.limit:
		return n, fmt.Errorf("it is larger than the limit of %d bytes; read a part of it, or raise the limit", in.limit)
	case in.raw != nil && in.n > expandSlack+expandRatio*in.raw.n:
		return n, fmt.Errorf("it unpacks to more than %d times its size, which no profile does; unpack it first if it is one", expandRatio)
	}
	return n, err
}

// Seen is how many decompressed bytes have been read.
func (in *input) Seen() int64 { return in.n }

// ReaderAt is the whole decompressed input and its size. A plain file is read in place; anything else
// is read into memory. With cut, an input that ends early is what there is of it, and cut says so.
// Nothing may have been Read before, and nothing can be after.
func (in *input) ReaderAt() (r io.ReaderAt, size int64, cut bool, err error) {
	if in.whole != nil {
		if in.size > in.limit {
			return nil, 0, false, fmt.Errorf("it is larger than the limit of %d bytes; read a part of it, or raise the limit", in.limit)
		}
		in.n = in.size
		return in.whole, in.size, false, nil
	}
	var b bytes.Buffer
	if _, err = b.ReadFrom(in); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, false, err
	}
	return bytes.NewReader(b.Bytes()), int64(b.Len()), err != nil, nil
}

// compressionOf names the compression that a file beginning with head has, and how it is undone.
func compressionOf(head []byte) (string, func(*input) error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}): // RFC 1952
		return "gzip", (*input).gunzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		return "zstd", (*input).unzstd
	case bytes.HasPrefix(head, []byte("PK\x03\x04")): // APPNOTE.TXT 4.3.7
		return "zip", (*input).unzip
	}
	return "", nil
}

// packed is the reader of the compressed bytes, counted once for all layers.
func (in *input) packed() io.Reader {
	if in.raw == nil {
		in.raw = &counter{r: in.r}
		return in.raw
	}
	return in.r
}

func (in *input) gunzip() error {
	z, err := gzip.NewReader(in.packed())
	if err != nil {
		return err
	}
	in.r = bufio.NewReaderSize(z, sniffLen)
	return nil
}

func (in *input) unzstd() error {
	z, err := zstd.NewReader(in.packed(), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return err
	}
	in.closers = append(in.closers, z.Close)
	in.r = bufio.NewReaderSize(z, sniffLen)
	return nil
}

// unzip opens the one file of a zip. A zip is read from its end, so what is no plain file is read into
// memory first.
func (in *input) unzip() error {
	at, size := in.whole, in.size
	if at == nil {
		// Within a compressed file a zip gains nothing, so the same bounds hold for it as for what it
		// contains.
		b, err := io.ReadAll(io.LimitReader(in.packed(), in.limit+1))
		if err != nil {
			return err
		}
		if int64(len(b)) > in.limit {
			return fmt.Errorf("it is larger than the limit of %d bytes", in.limit)
		}
		at, size = bytes.NewReader(b), int64(len(b))
	}
	z, err := zip.NewReader(at, size)
	if err != nil {
		return err
	}
	var files []*zip.File
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, "/") {
			files = append(files, f)
		}
	}
	if len(files) != 1 {
		return fmt.Errorf("it holds %d files; unpack it and name the one to read", len(files))
	}
	r, err := files[0].Open()
	if err != nil {
		return err
	}
	in.closers = append(in.closers, func() { r.Close() })
	if in.raw == nil {
		in.raw = &counter{n: size}
	} else {
		in.raw.n = max(in.raw.n, 1)
	}
	in.r = bufio.NewReaderSize(r, sniffLen)
	return nil
}

// decode drops a byte order mark, and makes UTF-16 UTF-8 where one announces it: Windows writes what
// is redirected to a file so.
func (in *input) decode() {
	head, _ := in.r.Peek(3)
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(head, []byte{0xef, 0xbb, 0xbf}):
		in.r.Discard(3)
		in.whole = nil
		return
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	default:
		return
	}
	in.r.Discard(2)
	in.whole = nil
	in.r = bufio.NewReaderSize(&utf16Reader{r: in.r, order: order}, sniffLen)
}

// utf16Reader makes UTF-8 of UTF-16. What is no character becomes U+FFFD; an odd last byte is dropped.
type utf16Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	back  uint16 // a unit that was read and not used
	has   bool
}

func (u *utf16Reader) unit() (uint16, error) {
	if u.has {
		u.has = false
		return u.back, nil
	}
	var b [2]byte
	if _, err := io.ReadFull(u.r, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return 0, err
	}
	return u.order.Uint16(b[:]), nil
}

func (u *utf16Reader) Read(p []byte) (int, error) {
	n := 0
	for n+utf8.UTFMax <= len(p) {
		a, err := u.unit()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		c := rune(a)
		if utf16.IsSurrogate(c) {
			b, err := u.unit()
			c = utf8.RuneError
			if err == nil {
				if c = utf16.DecodeRune(rune(a), rune(b)); c == utf8.RuneError {
					u.back, u.has = b, true
				}
			}
		}
		n += utf8.EncodeRune(p[n:], c)
	}
	return n, nil
}
