package rpc

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"go.lsp.dev/jsonrpc2"
)

// FuzzMessage makes messages of any bytes. What is refused has a code and a sentence, what is not
// JSON is refused, what is looked into gives the same as encoding/json.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"textDocument/hover","params":{"textDocument":{"uri":"file:///a"},"position":{"line":1,"character":2}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":"x","method":"$/cancelRequest","params":{"id":"y"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"x"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":5,"result":null,"result":[1,{"a":"\u00e9"}]}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1e3,"params":[]}`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		msg, _, err := parse(body)
		if (msg == nil) != (err != nil) {
			t.Fatalf("%q: message %v, error %v", body, msg, err)
		}
		// encoding/json takes raw bytes that are not UTF-8 as well.
		if msg != nil && !json.Valid(body) {
			t.Fatalf("%q is taken for JSON", body)
		}
		if err != nil {
			wire, ok := err.(*jsonrpc2.Error)
			if !ok || wire.Message == "" || wire.Code != jsonrpc2.ParseError && wire.Code != jsonrpc2.InvalidRequest {
				t.Fatalf("%q is refused with %v", body, err)
			}
		}
		var slow map[string]json.RawMessage
		got, ok := membersOf(body)
		if json.Unmarshal(body, &slow) == nil && utf8.Valid(body) && slow != nil {
			if !ok || len(got) != len(slow) {
				t.Fatalf("members of %q: %q, %v; want %q", body, got, ok, slow)
			}
			for name, want := range slow {
				if string(got[name]) != string(want) {
					t.Fatalf("member %q of %q is %q, want %q", name, body, got[name], want)
				}
			}
		}
		for method := range needed {
			Missing(method, body)
		}
	})
}
