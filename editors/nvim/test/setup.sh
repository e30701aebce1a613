#!/usr/bin/env bash
# Gets the Neovims that the tests run in, each into a folder of its own below the user's cache folder:
#
#   test/setup.sh [SUITE…]     SUITE: trixie (Neovim 0.10) and forky (0.12 or later); both by default
#
# They are Debian's packages of newer suites, with all libraries they need, taken from the mirror that
# this machine's apt names and unpacked. The system's own packages and sources stay as they are, but for
# patchelf, which is installed. Idempotent: what is there and runs is not fetched again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sightline-test
((${#@})) || set -- trixie forky

fetch() { # suite, new folder
  local suite=$1 into=$2 arch triple mirror apt
  arch=$(dpkg --print-architecture)
  triple=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
  mirror=$(
    {
      sed -n 's/^URIs:[[:space:]]*//p' /etc/apt/sources.list.d/*.sources
      sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^[:space:]]\+\).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    } 2>/dev/null | tr ' ' '\n' | grep -m1 -E '/debian/?$' || true
  )
  if [[ -z $mirror ]]; then
    echo "setup.sh: this machine's apt names no Debian mirror, so Neovim of $suite cannot be fetched; put one into $cache/nvim-$suite/bin/nvim" >&2
    return 1
  fi
  # An apt of its own. Its list of installed packages is empty, so that it resolves the C library too.
  apt=$into/apt
  mkdir -p "$apt"/{state,lists/partial,cache/archives/partial}
  : >"$apt/status"
  printf '%s\n' 'Types: deb' "URIs: $mirror" "Suites: $suite" 'Components: main' "Architectures: $arch" 'Targets: Packages' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$apt/suite.sources"
  {
    printf 'Dir::%s "%s";\n' State "$apt/state" State::lists "$apt/lists" State::status "$apt/status" Cache "$apt/cache" \
      Etc::sourcelist "$apt/suite.sources" Etc::sourceparts /dev/null Etc::preferences /dev/null Etc::preferencesparts /dev/null
    printf 'APT::Sandbox::User "";\n' # the folder belongs to who runs this
    printf 'Acquire::Check-Valid-Until "false";\n' # a mirror that is weeks behind will do; it is still signed
  } >"$apt/apt.conf"
  APT_CONFIG=$apt/apt.conf apt-get update -qq
  APT_CONFIG=$apt/apt.conf apt-get install -y -qq --download-only --no-install-recommends neovim >/dev/null

  local root=$into/root deb
  mkdir -p "$root" "$into/bin"
  for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
  rm -rf "$apt" "$root"/usr/share/{doc,man,info,locale,lintian,bug} "$root/usr/lib/$triple/gconv"
}

# Where the folder is in the end: the binary gets its loader and libraries by absolute paths. That
# leaves v:progpath true, which calling the loader by hand would not.
settle() { # folder
  local root=$1/root triple loader
  triple=$(basename "$(dirname "$(find "$root/usr/lib" -name 'libc.so.6' | head -1)")")
  loader=$(find "$root" -name 'ld-linux*.so.*' | head -1)
  if [[ -z $loader ]]; then
    echo "setup.sh: there is no dynamic loader among the packages in $root" >&2
    return 1
  fi
  # RPATH and not RUNPATH: it holds for the libraries' own libraries too.
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$root/usr/lib/$triple:$root/lib/$triple" "$root/usr/bin/nvim"
  cat >"$1/bin/nvim" <<W
#!/bin/sh
VIMRUNTIME='$root/usr/share/nvim/runtime' \\
LUA_CPATH='$root/usr/lib/$triple/lua/5.1/?.so;;' \\
LUA_PATH='$root/usr/share/lua/5.1/?.lua;$root/usr/share/lua/5.1/?/init.lua;;' \\
exec '$root/usr/bin/nvim' "\$@"
W
  chmod +x "$1/bin/nvim"
}

mkdir -p "$cache"
exec 9>"$cache/nvim.lock"
flock 9
for suite in "$@"; do
  nvim=$cache/nvim-$suite/bin/nvim
  if ! "$nvim" --version >/dev/null 2>&1; then
    "$here/../../../.ci/packages" nvim
    new=$cache/nvim-$suite
    rm -rf "$new"
    fetch "$suite" "$new"
    settle "$new"
  fi
  echo "$("$nvim" --version | head -1) in $cache/nvim-$suite"
done
