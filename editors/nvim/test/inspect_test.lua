-- The page of a process: what it shows, that it asks while it is seen, and that it says when it ended.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api
local inspect = require('sightline.inspect')

vim.o.lines, vim.o.columns = 40, 120
vim.cmd.edit(t.example .. '/accesslog.go')

local function text()
  return table.concat(api.nvim_buf_get_lines(0, 0, -1, false), '\n')
end

test('a process is shown, again and again while a window shows it', function()
  local child = vim.system({ 'sleep', '600' })
  vim.cmd('Sightline inspect ' .. child.pid)
  wait('the process', function()
    return text():find('sleep (' .. child.pid .. ')', 1, true) and text():find('Open files', 1, true)
  end)
  local shown = text()
  for _, want in ipairs({ 'CPU', 'resident', 'private', 'Threads (1)', 'sleeping', 'architecture', 'Memory', ' reserved · ', 'iiii', 'Image', 'Total WS', 'Regions (' }) do
    assert(shown:find(want, 1, true), want .. ' is not in:\n' .. shown)
  end
  assert(not vim.bo.modifiable and not vim.bo.modified)
  local asked = inspect.asked
  wait('it to be asked again', function()
    return inspect.asked > asked + 1
  end)

  local buf, win = api.nvim_get_current_buf(), api.nvim_get_current_win()
  vim.cmd('hide')
  assert(not api.nvim_win_is_valid(win))
  vim.wait(500) -- what was under way
  asked = inspect.asked
  vim.wait(2500)
  same(asked, inspect.asked, 'it is asked while it is hidden')
  vim.cmd('botright sbuffer ' .. buf)
  wait('it to be asked', function()
    return inspect.asked > asked
  end)

  child:kill('sigkill')
  child:wait()
  wait('that it has ended', function()
    return api.nvim_buf_get_lines(buf, 0, 1, false)[1]:find('%d')
      and not api.nvim_buf_get_lines(buf, 0, 1, false)[1]:find('sleep %(')
  end)
  t.type('q')
  assert(not api.nvim_buf_is_valid(buf))
end)

test('a word that is no process is said', function()
  vim.cmd('Sightline inspect nobody')
  wait('it', function()
    return t.heard('nobody is no process')
  end)
  vim.cmd('Sightline inspect 999999999')
  wait('it', function()
    return text():find('999999999', 1, true)
  end)
  t.type('q')
end)

test('lines behind a Go heap are gone to', function()
  local server = require('sightline.server')
  local place = { uri = vim.uri_from_fname(t.example .. '/accesslog.go'), line = 6 }
  local line = { text = 'about 24.0 MiB in 24 objects by main.load main.go:7', count = 24, location = place, stale = false }
  local time, asked = 0, nil
  local request = server.request
  server.request = function(_, params, f)
    asked = params
    time = time + 1000
    f({
      pid = 4713, start = '1', name = 'srv', command = './srv', title = 'srv (4713)', note = '', cpu = 0.5, memory = 4096,
      facts = {}, threads = {}, moreThreads = 0, files = {}, moreFiles = 0, leaks = {},
      map = {
        time = time, resident = 400, text = '400 B resident', note = 'it changed', sum = 'It is all.', more = 3,
        columns = { { name = 'Size', detail = '' } },
        kinds = {
          { name = 'Image', detail = '', resident = 1, size = 10, share = '0.2%', cells = { '10B' } },
          { name = 'Managed heap', detail = '', resident = 399, size = 400, share = '99.8%', cells = { '400B' } },
          { name = 'Free', detail = '', resident = 0, size = 9, share = '', cells = { '9B' } },
        },
        terms = { { name = 'live objects', bytes = 399, text = '399 B', share = '99.8%', number = '24', advice = 'Look.', lines = { line } } },
        stacks = { { number = 900, bytes = 900, size = '56.2 MiB', each = '64.0 KiB each',
          line = { text = '900 goroutines, 64.0 KiB each', count = 900, location = place, stale = false } } },
        regions = { { start = 'c000', kind = 'Managed heap', name = 'Go arena', protection = 'rw-p', size = '64.0 MiB', resident = '399 B', lines = { line } } },
      },
    })
  end
  vim.cmd('Sightline inspect 4713')
  assert(asked.map, 'it asks for the map')
  local shown = text()
  for _, want in ipairs({ '\ni' .. ('g'):rep(71) .. '\n', 'g  Managed heap  99.8%  █          400B', 'What holds it', 'It is all.', 'Regions (4)', 'and 3 more', 'it changed' }) do
    assert(shown:find(want, 1, true), want .. ' is not in:\n' .. shown)
  end
  server.request = request
  for _, row in ipairs({ 'about 24.0 MiB', '56.2 MiB  900 goroutines' }) do
    vim.cmd.buffer('sightline://process/4713')
    api.nvim_win_set_cursor(0, { t.lnum(row), 0 })
    t.type('\r')
    same('accesslog.go', vim.fs.basename(api.nvim_buf_get_name(0)))
    same(7, api.nvim_win_get_cursor(0)[1])
  end
  vim.cmd('bwipeout! sightline://process/4713')
end)

test('a line that opened descriptors is gone to', function()
  local server = require('sightline.server')
  local place = { uri = vim.uri_from_fname(t.example .. '/accesslog.go'), line = 4 }
  local request = server.request
  server.request = function(_, params, f)
    same(4711, params.pid)
    f({
      pid = 4711, start = '1', name = 'srv', command = './srv', title = 'srv (4711)', note = '', cpu = 0.5, memory = 4096,
      facts = { { name = 'CPU', text = '50.0%', detail = '' } }, threads = {}, moreThreads = 0, files = {}, moreFiles = 0,
      leaks = { { type = 'REG', name = '/tmp/*', text = '90 open, +80 in 3.0 s', open = 90, grew = 80,
        lines = { { text = '90 by main.leak, accesslog.go:5', count = 90, location = place, stale = false } } } },
    })
  end
  vim.cmd('Sightline inspect 4711')
  server.request = request
  api.nvim_win_set_cursor(0, { t.lnum('90 by main.leak'), 0 })
  t.type('\r')
  same('accesslog.go', vim.fs.basename(api.nvim_buf_get_name(0)))
  same(5, api.nvim_win_get_cursor(0)[1])
end)
t.done()
