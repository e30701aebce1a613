-- What is stored: chosen, pinned, noted, compared, removed; and other tools' files.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api
local protocol = require('sightline.protocol')
local server = require('sightline.server')

require('sightline').setup()
local buf = t.edit('accesslog.go')
local line = t.lnum('pattern := regexp.MustCompile(')

local function captures()
  local list
  server.request(protocol.methods.captures, nil, function(c)
    list = c or {}
  end)
  return wait('captures', function()
    return list
  end)
end

--- Runs :Sightline captures and chooses the capture and what to do with it.
local function menu(capture, action)
  local texts = {}
  vim.ui.select = function(items, opts, done)
    local want = #texts == 0 and capture or action
    texts[#texts + 1] = vim.tbl_map(opts.format_item, items)
    for i, text in ipairs(texts[#texts]) do
      if text == want or want ~= 'remove' and text:find(want, 1, true) then
        done(items[i])
        return
      end
    end
    error('nothing offered has ' .. want .. ': ' .. vim.inspect(texts))
  end
  vim.cmd('Sightline captures')
  wait('both choices', function()
    return #texts == 2
  end)
  return texts
end

-- A second one, of a benchmark.
vim.fn.system({ 'sightline', 'test', '-bench', 'BenchmarkPages', '--samples', '50' })

test('both captures are listed, the newest first, in columns', function()
  local offered = t.choose(nil)
  vim.cmd('Sightline open')
  wait('the list', function()
    return #offered == 2
  end)
  assert(offered[1]:find('BenchmarkPages') and offered[2]:find('TestPages'), vim.inspect(offered))
  assert(offered[1]:find('sample'), offered[1])
end)

test('an older capture is shown instead of the newest', function()
  menu('TestPages', 'show its costs')
  wait('it is shown', function()
    return captures()[2].shown
  end)
  wait('its number', function()
    return (t.number(line, buf) or ''):find(t.cost)
  end)
end)

test('a capture is pinned and unpinned', function()
  menu('TestPages', 'pin: never removed')
  wait('it', function()
    return captures()[2].pinned
  end)
  local texts = menu('TestPages', 'unpin')
  assert(texts[1][2]:find('pinned'), texts[1][2])
  wait('it', function()
    return not captures()[2].pinned
  end)
end)

test('a capture gets a note', function()
  vim.ui.input = function(_, done)
    done('before the cache')
  end
  menu('TestPages', 'note…')
  wait('it', function()
    return captures()[2].note == 'before the cache'
  end)
  local offered = t.choose(nil)
  vim.cmd('Sightline open')
  wait('the list with it', function()
    return (offered[2] or ''):find('before the cache', 1, true)
  end)
end)

test('with a baseline lenses say the change', function()
  vim.cmd('Sightline open @2')
  menu('BenchmarkPages', 'make it the baseline')
  wait('a signed change', function()
    local lens = t.lenses(buf)['func Parse(line string) (Request, bool) {']
    return lens and (lens:find('▲') or lens:find('▼') or lens:find('[+-]%d'))
  end)
end)

test('two captures are compared in a tree, which leads to source and flame graph', function()
  vim.cmd('Sightline diff @2 @')
  local function text()
    return table.concat(api.nvim_buf_get_lines(0, 0, -1, false), '\n')
  end
  wait('the tree', function()
    return vim.bo.filetype == 'sightline-tree' and api.nvim_buf_line_count(0) > 4
  end)
  assert(text():find('^ from go test .- to go test '), text())
  for i, row in ipairs(api.nvim_buf_get_lines(0, 3, -1, false)) do
    assert(row:find('^ +[+-±]') or row:find('… %d+ more'), i .. ': ' .. row)
  end
  local tree = api.nvim_get_current_win()
  t.type('v')
  -- Which functions changed most is up to chance, but some of those that compile patterns have.
  local at, name
  wait('the list of functions', function()
    for i, row in ipairs(text():find('functions · ', 1, true) and api.nvim_buf_get_lines(0, 0, -1, false) or {}) do
      name = row:match(' regexp%.[%w_.]*[%w_]') or row:match(' syntax%.[%w_.]*[%w_]')
      if name then
        at = i
        return true
      end
    end
  end)
  api.nvim_win_set_cursor(0, { at, 0 })
  t.type('<CR>')
  assert(api.nvim_buf_get_name(0):find('%.go$'), api.nvim_buf_get_name(0))
  assert(vim.fn.getline('.'):find('func', 1, true), name .. ': ' .. vim.fn.getline('.'))
  api.nvim_set_current_win(tree)
  local opened
  vim.ui.open = function(path)
    opened = path
    return {}
  end
  t.type('F')
  wait('the picture', function()
    return t.heard('Flame graph of')
  end)
  local svg = table.concat(vim.fn.readfile(opened), '\n')
  assert(svg:find('<svg') and svg:find('testing.', 1, true), svg:sub(1, 2000))
  vim.cmd('close')
end)

test("another tool's file becomes a capture", function()
  local before = #captures()
  local folded = vim.fs.joinpath(t.example, 'perf.folded')
  t.write('perf.folded', 'main;work;sum 30\nmain;idle 10\n')
  vim.cmd('Sightline open ' .. folded)
  wait('it', function()
    return #captures() == before + 1
  end)
end)

test('a capture is removed, after a question', function()
  local before, asked = #captures(), nil
  vim.fn.confirm = function(text)
    asked = text
    return 2
  end
  menu('TestPages', 'remove')
  wait('the question', function()
    return asked
  end)
  same(before, #captures())
  vim.fn.confirm = function()
    return 1
  end
  menu('TestPages', 'remove')
  wait('it', function()
    return #captures() == before - 1
  end)
end)

t.done()
