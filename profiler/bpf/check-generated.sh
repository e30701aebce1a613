#!/bin/sh
# Tells whether the committed BPF objects and their Go are what the C sources give: generates them
# anew in a copy and compares. 0: they are; 1: they are stale, and it names them; 2: it could not
# tell. It changes nothing here.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

if ! command -v clang-14 >/dev/null || ! command -v llvm-strip-14 >/dev/null; then
	echo "check-generated.sh: clang-14 is missing; run profiler/bpf/setup-toolchain.sh first" >&2
	exit 2
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT INT TERM
mkdir -p "$copy/profiler/bpf"
cp "$root/go.mod" "$root/go.sum" "$copy"
cp "$here"/*.bpf.[ch] "$here/generate.go" "$copy/profiler/bpf"
if ! (cd "$copy" && go generate ./profiler/bpf) >"$copy/log" 2>&1; then
	cat "$copy/log" >&2
	echo "check-generated.sh: the C sources in profiler/bpf do not compile" >&2
	exit 2
fi

stale=0
for file in "$here"/*_bpfe[lb].o "$here"/*_bpfe[lb].go "$copy"/profiler/bpf/*_bpfe[lb].*; do
	name=${file##*/}
	if ! cmp -s "$here/$name" "$copy/profiler/bpf/$name"; then
		[ "$file" != "$here/$name" ] && [ -e "$here/$name" ] && continue # named already
		echo "check-generated.sh: profiler/bpf/$name is stale; run: go generate ./profiler/bpf" >&2
		stale=1
	fi
done
exit $stale
