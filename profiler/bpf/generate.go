package bpf

// The compiler's version decides the object's bytes, so it is named: setup-toolchain.sh installs it,
// and check-generated.sh compares what it makes with what is committed. The -I are where Debian
// keeps <asm/types.h>; the host's own serves both targets, for nothing is taken from it that differs
// between architectures.
//
//go:generate go tool bpf2go -cc clang-14 -tags linux -target amd64,arm64 -no-global-types -type sample_header -type copy_rule -type past sampler sampler.bpf.c -- -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

//go:generate go tool bpf2go -cc clang-14 -tags linux -target amd64,arm64 -no-global-types -type descriptor_event descriptors descriptors.bpf.c -- -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

//go:generate go tool bpf2go -cc clang-14 -tags linux -target amd64,arm64 -no-global-types allocations allocations.bpf.c -- -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
