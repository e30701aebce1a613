#!/bin/sh
# Installs what "go generate ./profiler/bpf" needs: clang-14, llvm-strip-14, <bpf/bpf_helpers.h> and
# <linux/bpf.h>. Does nothing where they are there. Only who changes a .bpf.c needs it: the objects
# are committed, and building Sightline takes Go alone.
set -eu

say() {
	echo "setup-toolchain.sh: $1" >&2
	exit 2
}

missing=
command -v clang-14 >/dev/null || missing="$missing clang-14"
command -v llvm-strip-14 >/dev/null || missing="$missing llvm-14"
[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev"
[ -e /usr/include/linux/bpf.h ] || missing="$missing linux-libc-dev"
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || say "this is no Debian-like system; install clang 14 as clang-14, its llvm-strip as llvm-strip-14, and the headers of libbpf and of the kernel yourself (missing:$missing)"
[ "$(id -u)" = 0 ] || say "installing packages takes root; run: sudo $0 (missing:$missing)"

export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # the packages are so many words
install() { apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null; }
# The lists of packages may be absent or old: they are fetched only where installing fails without.
if ! install 2>/dev/null; then
	apt-get -o DPkg::Lock::Timeout=300 update -qq || say "apt-get update does not work here: no network?"
	install || say "apt has not all of these packages:$missing (Debian 12 and Ubuntu 22.04 and 24.04 have clang 14)"
fi
