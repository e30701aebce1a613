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
  for _, want in ipairs({ 'CPU', 'resident', 'private', 'Threads (1)', 'sleeping', 'architecture' }) do
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
