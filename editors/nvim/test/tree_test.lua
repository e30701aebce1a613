-- The call tree in a buffer: rows that come when they are asked for, and the way to the source.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api
local protocol = require('sightline.protocol')
local server = require('sightline.server')

local source = vim.uri_from_fname(t.example .. '/accesslog.go')

-- A tree of our own: name, share, self share, children.
local shape = {
  { 'testing.tRunner', 1, 0, {
    { 'example.com/accesslog.TestPages', 0.95, 0, {
      { 'example.com/accesslog.Pages', 0.94, 0.01, {
        { 'example.com/accesslog.Parse', 0.8, 0.1, {} },
        { 'example.com/accesslog.clean', 0.05, 0.05, {} },
      } },
      { 'example.com/accesslog.logLines', 0.01, 0.01, {} },
    } },
  } },
  { 'runtime.gcBgMarkWorker', 0.04, 0.04, {} },
}

local asked ---@type table[]

local function row(node, path)
  return {
    node = path, name = node[1], label = (node[1]:gsub('^.*/', '')),
    total = node[2] * 1e9, self = node[3] * 1e9, totalCount = node[2] * 1000, selfCount = node[3] * 1000, share = node[2],
    text = ('%.1f%% · %d ms'):format(node[2] * 100, node[2] * 1000),
    selfText = node[3] > 0 and ('%.1f%%'):format(node[3] * 100) or '',
    when = '', children = #node[4] > 0, tooltip = 'about ' .. node[1],
    location = node[1]:find('accesslog') and { uri = source, line = 25 } or nil,
  }
end

local function stacks(params)
  asked[#asked + 1] = params
  local nodes, path = shape, params.node or ''
  for i in path:gmatch('%d+') do
    nodes = nodes[tonumber(i)][4]
  end
  local rows = {}
  for i, node in ipairs(nodes) do
    rows[i] = row(node, path .. '/' .. i)
  end
  local offset, all = params.offset or 0, rows
  rows = vim.list_slice(all, offset + 1, offset + 1) -- one at a time where there are several
  if #all < 2 or path ~= '/1/1' then
    rows, offset = all, 0
  end
  return {
    capture = 'c1', title = 'go test . · just now · 1.0 s', filter = params.filter.preset or '', unit = 'ns', total = 1e9,
    about = (params.view:gsub('-', ' ')) .. (params.focus and ' of ' .. params.focus:gsub('^.*/', '') or ''),
    text = '1.0 s, 1.0k samples', rows = rows, more = #all - offset - #rows, fields = vim.empty_dict(),
  }
end

local methods = {
  [protocol.methods.stacks] = stacks,
  [protocol.methods.diff] = stacks,
  [protocol.methods.presets] = function()
    return { { name = 'just my code', detail = 'folds the rest', stock = true, filter = vim.empty_dict(), default = true } }
  end,
}

local function lines()
  return api.nvim_buf_get_lines(0, 0, -1, false)
end

local function tree(args)
  vim.cmd('Sightline tree ' .. (args or ''))
  wait('the tree', function()
    return vim.bo.filetype == 'sightline-tree' and #lines() > 3
  end)
end

local function at(name)
  for i, line in ipairs(lines()) do
    if line:find(name, 1, true) then
      api.nvim_win_set_cursor(0, { i, 0 })
      return i
    end
  end
  error('no row has ' .. name .. '\n' .. table.concat(lines(), '\n'), 2)
end

local function has(name)
  return table.concat(lines(), '\n'):find(name, 1, true) ~= nil
end

asked = {}
t.fake(methods)
vim.cmd.edit(t.example .. '/accesslog.go')

test('the tree opens with its hottest path expanded, in columns', function()
  tree()
  wait('the path', function()
    return has('accesslog.Parse')
  end)
  wait('all answers', function()
    return #asked == 4
  end)
  same({
    ' go test . · just now · 1.0 s',
    ' call tree · 1.0 s, 1.0k samples   g? for keys',
    '            total   self    function',
    ' 100.0% · 1000 ms         ▾ testing.tRunner',
    '  95.0% ·  950 ms           ▾ accesslog.TestPages',
    '  94.0% ·  940 ms   1.0%      ▾ accesslog.Pages',
    '  80.0% ·  800 ms  10.0%          accesslog.Parse',
    '   5.0% ·   50 ms   5.0%          accesslog.clean',
    '                                … 1 more',
    '   4.0% ·   40 ms   4.0%    runtime.gcBgMarkWorker',
  }, lines())
  assert(t.row('accesslog.Parse'):find('accesslog.go:26'), t.row('accesslog.Parse'))
  same(nil, asked[1].node)
  same('c1', asked[2].capture, 'what is asked later is of the same capture')
  same(4, vim.fn.line('.'))
end)

test('more rows come when they are asked for', function()
  at('… 1 more')
  t.type('<CR>')
  wait('the row', function()
    return has('accesslog.logLines')
  end)
  same(1, asked[#asked].offset)
  assert(not has('more'))
end)

test('rows collapse and expand without another question', function()
  local before = #asked
  at('accesslog.Pages')
  t.type('<Tab>')
  same(false, has('accesslog.Parse'))
  t.type('l')
  same(true, has('accesslog.Parse'))
  at('accesslog.Parse')
  t.type('h') -- to the caller, which closes
  same(false, has('accesslog.Parse'))
  assert(api.nvim_get_current_line():find('accesslog.Pages'), api.nvim_get_current_line())
  t.type('E')
  same(true, has('accesslog.Parse'))
  same(before, #asked)
end)

test('enter goes to the source in the window before', function()
  at('accesslog.Parse')
  local win = api.nvim_get_current_win()
  t.type('<CR>')
  same(t.example .. '/accesslog.go', api.nvim_buf_get_name(0))
  same(26, vim.fn.line('.'))
  assert(api.nvim_get_current_win() ~= win)
  api.nvim_set_current_win(win)
  at('runtime.gcBgMarkWorker')
  t.type('<CR>')
  wait('why not', function()
    return t.heard('runtime.gcBgMarkWorker has no source here')
  end)
  same(win, api.nvim_get_current_win())
end)

test('callers, callees, filter, tooltip and keys', function()
  at('accesslog.Parse')
  t.type('c')
  wait('callers', function()
    return asked[#asked].view == 'callers'
  end)
  same('example.com/accesslog.Parse', asked[#asked].focus)
  wait('its title', function()
    return lines()[2]:find('callers of accesslog.Parse', 1, true)
  end)
  t.type('v')
  wait('the call tree', function()
    return asked[#asked].view == 'call-tree' and has('testing.tRunner')
  end)
  same(nil, asked[#asked].focus)
  t.choose('just my code')
  t.type('f')
  wait('the filter', function()
    return lines()[2]:find('just my code')
  end)
  same({ preset = 'just my code' }, asked[#asked].filter)
  t.type('X')
  wait('no filter', function()
    return next(asked[#asked].filter) == nil and not lines()[2]:find('just my code')
  end)
  at('testing.tRunner')
  t.type('K')
  wait('the tooltip', function()
    return t.screen():find('about testing.tRunner')
  end)
  vim.cmd('fclose!')
  t.type('g?')
  wait('the keys', function()
    return t.screen():find('expand the hottest path')
  end)
  vim.cmd('fclose!')
  t.type('q')
  assert(vim.bo.filetype ~= 'sightline-tree')
end)

test('a comparison says what of what', function()
  vim.cmd('Sightline diff c0 c1')
  wait('the tree', function()
    return vim.bo.filetype == 'sightline-tree' and has('testing.tRunner')
  end)
  same({ capture = 'c0' }, asked[#asked].before)
  same('c1', asked[#asked].capture)
  vim.cmd('close')
end)

for _, client in ipairs(vim.lsp.get_clients({ name = 'sightline' })) do
  server.stopping = client.id
  server.call(client, 'stop')
end
wait('no client', function()
  return #vim.lsp.get_clients({ name = 'sightline' }) == 0
end)
t.real()
t.edit('accesslog.go')

test('the tree of a real capture leads to the function', function()
  tree()
  wait('the path down to the example', function()
    return has('Pages')
  end)
  assert(lines()[1]:find('go test'), lines()[1])
  at('Pages')
  t.type('E')
  wait('what it calls', function()
    return has('Parse')
  end)
  at('Parse')
  t.type('<CR>')
  wait('the source', function()
    return vim.endswith(api.nvim_buf_get_name(0), 'accesslog.go')
  end)
  assert(api.nvim_get_current_line():find('func Parse'), api.nvim_get_current_line())
end)

test('the list of functions of a real capture', function()
  tree('by-name')
  wait('functions', function()
    return has('regexp') and not has('▸')
  end)
  vim.cmd('close')
end)

test('the flame graph of a real capture is a picture', function()
  local opened
  vim.ui.open = function(path)
    opened = path
    return {}
  end
  vim.cmd('Sightline flame')
  wait('it', function()
    return t.heard('Flame graph of')
  end)
  assert(table.concat(vim.fn.readfile(opened), '\n'):find('<svg'), opened)
end)

t.done()
