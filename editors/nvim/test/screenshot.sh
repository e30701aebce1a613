#!/usr/bin/env bash
# Pictures of the plugin as a person sees it, in a terminal:
#
#   test/screenshot.sh [FOLDER]     default: docs of this project
#
# Needs what `.ci/packages screenshots` and test/setup.sh install, and bin/sightline. Records the test of
# the example, opens it in Neovim under tmux with a dark and a light background, and has Chromium draw
# what the terminal shows.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../../.." && pwd)
out=$(mkdir -p "${1:-$top/docs}" && cd "${1:-$top/docs}" && pwd)
suite=${SUITE:-forky}
nvim=${XDG_CACHE_HOME:-$HOME/.cache}/sightline-test/nvim-$suite/bin/nvim
columns=112 rows=34

tmp=$(mktemp -d)
socket=
trap '[[ -z $socket ]] || tmux -S "$socket" kill-server 2>/dev/null || true; rm -rf "$tmp"' EXIT
export SIGHTLINE_NO_DAEMON=1 XDG_STATE_HOME=$tmp/state XDG_CONFIG_HOME=$tmp/config XDG_DATA_HOME=$tmp/data LC_ALL=C.UTF-8 TERM=xterm-256color
export PATH=$top/bin:$PATH
cp -r "$top/testdata/example" "$tmp/accesslog"
cd "$tmp/accesslog"
sightline test -run TestPages --samples 2000 >/dev/null

grab() { tmux -S "$socket" capture-pane -p "$@"; }
await() { # text
  for _ in $(seq 150); do
    if grab | grep -qF -- "$1"; then return; fi
    sleep 0.1
  done
  echo "screenshot.sh: this never came: $1" >&2
  grab >&2
  exit 1
}
keys() { tmux -S "$socket" send-keys "$@"; }

picture() { # name, foreground, background
  grab -e -N >"$tmp/$1.ansi"
  # aha writes colors as they are; the page gives those that the terminal has by default.
  aha --no-header <"$tmp/$1.ansi" >"$tmp/$1.body"
  cat >"$tmp/$1.html" <<H
<meta charset="utf-8"><style>
body { margin: 0; background: $3; color: $2 }
pre { margin: 12px; font: 14px/19px "DejaVu Sans Mono", monospace }
</style><pre>$(cat "$tmp/$1.body")</pre>
H
  timeout 60 chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --user-data-dir="$tmp/chromium" --hide-scrollbars --window-size=$((columns * 843 / 100 + 26)),$((rows * 19 + 26)) \
    --screenshot="$tmp/$1.png" "file://$tmp/$1.html" >/dev/null 2>&1
  mv "$tmp/$1.png" "$out/$1.png"
  echo "$out/$1.png $(stat -c %s "$out/$1.png") bytes"
}

shoot() { # dark or light, foreground, background
  socket=$tmp/tmux-$1
  tmux -S "$socket" -f /dev/null new-session -d -x $columns -y $rows "exec '$nvim' --clean --cmd 'set runtimepath^=$top/editors/nvim' \
    --cmd 'set termguicolors background=$1 laststatus=2 shortmess+=I noruler noshowcmd' \
    -c 'lua require([[sightline]]).setup()' -c 'set signcolumn=no number' accesslog.go"
  tmux -S "$socket" set -g status off
  tmux -S "$socket" set -ga terminal-overrides ',*:Tc'
  await '% · '
  await 'total '
  keys '24Gzt' C-l
  sleep 0.3
  picture "neovim-lines-$1" "$2" "$3"
  keys ':Sightline tree' Enter
  await 'compileOnePass'
  keys C-l
  sleep 0.5
  picture "neovim-tree-$1" "$2" "$3"
  keys ':qa!' Enter
  tmux -S "$socket" kill-server 2>/dev/null || true
}

shoot dark '#e0e2ea' '#14161b' # the colors of Neovim's default color scheme
shoot light '#14161b' '#e0e2ea'
