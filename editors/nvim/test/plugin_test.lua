-- What needs no server: loading, options, completion, choosing, help and health.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api

test('nothing is read before it is needed', function()
  for name in pairs(package.loaded) do
    assert(not name:find('^sightline'), name)
  end
  same('', require('sightline').statusline())
  same(2, vim.fn.exists(':Sightline'))
end)

test('no key is mapped, <Plug> maps are there', function()
  for _, map in ipairs(api.nvim_get_keymap('n')) do
    if (map.rhs or ''):find('Sightline') then
      assert(map.lhs:find('^<Plug>%(sightline%-'), map.lhs)
    end
  end
  same('<Cmd>Sightline profile<CR>', vim.fn.maparg('<Plug>(sightline-profile)', 'n'))
  same('<Cmd>Sightline tree<CR>', vim.fn.maparg('<Plug>(sightline-tree)', 'n'))
end)

test('the command completes its words', function()
  local all = vim.fn.getcompletion('Sightline ', 'cmdline')
  for _, name in ipairs({
    'profile', 'record', 'attach', 'stop', 'discard', 'captures', 'open', 'clear', 'metric', 'hot', 'next', 'prev',
    'callers', 'callees', 'tree', 'flame', 'diff', 'doctor', 'inspect',
  }) do
    assert(vim.tbl_contains(all, name), name)
  end
  same({ 'callees', 'callers' }, vim.fn.getcompletion('Sightline call', 'cmdline'))
  same({ 'percent' }, vim.fn.getcompletion('Sightline metric p', 'cmdline'))
  same({ 'functions' }, vim.fn.getcompletion('Sightline! hot f', 'cmdline'))
  vim.cmd.edit(t.example .. '/accesslog_test.go')
  same({ 'TestPages', 'TestParse' }, vim.fn.getcompletion('Sightline profile T', 'cmdline'))
  same({ 'package' }, vim.fn.getcompletion('Sightline profile pa', 'cmdline'))
  same({ '@', '@2' }, vim.fn.getcompletion('Sightline diff @', 'cmdline'))
  assert(vim.tbl_contains(vim.fn.getcompletion('Sightline open acc', 'cmdline'), 'accesslog.go'))
end)

test('a word that is none is said', function()
  vim.cmd('Sightline flamegraph')
  local said = wait('it', function()
    return t.heard('There is no :Sightline flamegraph')
  end)
  assert(said.text:find('doctor'), said.text)
end)

test('options: defaults, mistakes and unknown keys', function()
  local config = require('sightline.config')
  vim.g.sightline = { lines = { delay = 10, colour = 'red' }, lense = true }
  config.set({ lines = { position = 'left' }, settings = { hints = { threshold = 2 } } })
  local got = config.get()
  same(10, got.lines.delay)
  same('eol', got.lines.position)
  same(true, got.lenses.enable)
  same({ 'go', 'c', 'cpp', 'rust' }, got.filetypes)
  local problems = table.concat(config.problems(), '\n')
  for _, want in ipairs({ 'no option lines.colour', 'no option lense', 'option lines.position is "left": make it one of "eol"' }) do
    assert(problems:find(want, 1, true), problems)
  end
  wait('they are said', function()
    return t.heard('lines.position')
  end)
  same({ hints = { enable = false, threshold = 2 } }, require('sightline.server').config().settings.sightline)
  vim.g.sightline = nil
  config.set({ lines = { enable = false } })
  same({}, config.problems())
  same({ hints = { enable = true } }, require('sightline.server').config().settings.sightline)
  config.set(nil)
end)

test('columns stand below each other, whatever the characters', function()
  same({ '  1  é    9%', ' 10  abc  x', '100  𝄞' },
    require('sightline.pick').align({ { 1, 'é', '9%' }, { 10, 'abc', 'x' }, { 100, '𝄞', '' } }, { true }))
end)

local places = {
  { name = 'a', at = { uri = vim.uri_from_fname(t.example .. '/accesslog.go'), line = 3 } },
  { name = 'b', at = { uri = vim.uri_from_fname(t.example .. '/accesslog_test.go'), line = 7 } },
}
local function choose_place()
  local chosen
  require('sightline.pick').select(places, {
    prompt = 'Where',
    none = 'nowhere',
    columns = function(p)
      return { p.name }
    end,
    location = function(p)
      return p.at
    end,
  }, function(p)
    chosen = p
  end)
  return chosen
end

test('places are chosen with vim.ui.select() where nothing else is', function()
  t.choose('b')
  same(places[2], choose_place())
  require('sightline.config').set({ picker = 'telescope' })
  t.choose('a')
  same(places[1], choose_place())
  wait('what is missing', function()
    return t.heard('"telescope", which is not installed')
  end)
  require('sightline.config').set(nil)
end)

test('the pickers that are there get items with their places', function()
  local got
  package.loaded['snacks.picker'] = {}
  package.loaded.snacks = {
    picker = {
      pick = function(o)
        got = o
        o.confirm({ close = function() end }, o.items[2])
      end,
    },
  }
  same(places[2], choose_place())
  same(t.example .. '/accesslog_test.go', got.items[2].file)
  same({ 8, 0 }, got.items[2].pos)
  package.loaded['snacks.picker'], package.loaded.snacks = nil, nil

  package.loaded['fzf-lua'] = {
    fzf_exec = function(list, o)
      got = list
      o.actions.default({ list[1] })
    end,
  }
  same(places[1], choose_place())
  same({ '1\ta', '2\tb' }, got)
  package.loaded['fzf-lua'] = nil
end)

test('going to a place leaves a way back and opens folds', function()
  vim.cmd.edit(t.example .. '/accesslog.go')
  api.nvim_win_set_cursor(0, { 5, 0 })
  same(true, require('sightline.pick').go(places[2].at))
  same(8, vim.fn.line('.'))
  t.type('<C-o>')
  same(t.example .. '/accesslog.go', api.nvim_buf_get_name(0))
  same(5, vim.fn.line('.'))
  same(true, require('sightline.pick').go({ uri = places[1].at.uri, line = 100000 }))
  same(vim.fn.line('$'), vim.fn.line('.'))
  same(false, require('sightline.pick').go({ uri = 'file:///nowhere/x.go', line = 1 }))
  same(false, require('sightline.pick').go(nil))
end)

test('health says what there is', function()
  vim.cmd('checkhealth sightline')
  local text = table.concat(api.nvim_buf_get_lines(0, 0, -1, false), '\n')
  for _, want in ipairs({ 'server: ', 'options are as they must be', 'sightline doctor says', 'plugin ' .. require('sightline.version') }) do
    assert(text:find(want, 1, true), text)
  end
  assert(not text:find('Failed to run', 1, true) and not text:find('ERROR', 1, true), text)
  vim.cmd('bwipeout')
end)

test('the help has a tag for each command, map and option', function()
  local dir = vim.fn.tempname()
  vim.fn.mkdir(dir .. '/doc', 'p')
  local from = api.nvim_get_runtime_file('doc/sightline.txt', false)[1]
  vim.fn.writefile(vim.fn.readfile(from), dir .. '/doc/sightline.txt')
  vim.cmd.helptags(dir .. '/doc')
  local tags = table.concat(vim.fn.readfile(dir .. '/doc/tags'), '\n')
  local function has(tag)
    assert(tags:find(tag .. '\t', 1, true), 'no help for ' .. tag)
  end
  for name in pairs(require('sightline.command').subcommands) do
    has(':Sightline-' .. name)
  end
  for _, name in ipairs({ 'cmd', 'filetypes', 'settings', 'lines', 'lenses', 'progress', 'picker', 'hover' }) do
    has('sightline-option-' .. name)
  end
  for _, tag in ipairs({ 'sightline', 'sightline-options', 'sightline-maps', 'sightline-highlights', 'sightline-tree', 'sightline.statusline()', 'sightline.setup()' }) do
    has(tag)
  end
  for _, line in ipairs(vim.fn.readfile(from)) do
    assert(vim.fn.strdisplaywidth(line) <= 80, line)
  end
end)

t.done()
