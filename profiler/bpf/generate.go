package bpf

// The compiler's version decides the object's bytes: setup-toolchain.sh installs the one that
// check-generated.sh compares with. The -I are where Debian keeps <asm/types.h>; the host's own is
// used for both targets, and nothing that differs between architectures is taken from it.
//
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -no-global-types -type sample_header sampler sampler.bpf.c -- -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
