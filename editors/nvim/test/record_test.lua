-- Recording from the editor: a test, a program, a process; stopping, dropping, and what is said.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api
local protocol = require('sightline.protocol')
local server = require('sightline.server')

local hot = 'pattern := regexp.MustCompile('

local function captures()
  local list
  server.request(protocol.methods.captures, nil, function(c)
    list = c or {}
  end)
  return wait('captures', function()
    return list
  end)
end

local function idle()
  wait('the recording ends', function()
    local s = require('sightline.status').last
    return not s or not s.recording and (s.phase or '') == ''
  end)
end

-- Without setup() and without vim.lsp.enable(): the command starts the server.
vim.cmd.edit(t.example .. '/accesslog_test.go')
local tests = api.nvim_get_current_buf()
vim.o.hidden = true

test('the command starts the server and profiles the test at the cursor', function()
  api.nvim_win_set_cursor(0, { t.lnum('pages := Pages(logLines'), 0 })
  vim.cmd('Sightline profile')
  local lens = wait('the lens says how far it is', function()
    local l = t.lenses(tests)['func TestPages(t *testing.T) {']
    return l and l:find('stop') and l
  end)
  assert(lens:find('building') or lens:find('recording'), lens)
  wait('the status line says so', function()
    return require('sightline').statusline():find('●')
  end)
  local said = wait('the end is said', function()
    return t.heard('TestPages: ')
  end)
  assert(said.text:find('samples in'), said.text)
  same(vim.log.levels.INFO, said.level)
  idle()
  same('', require('sightline').statusline())
  vim.cmd.edit(t.example .. '/accesslog.go')
  local text = wait('numbers', function()
    return t.number(t.lnum(hot))
  end)
  assert(text:find('^' .. t.cost .. '$'), text)
  assert(t.row(hot):find(t.cost .. '$'))
end)

test('a lens profiles its test', function()
  vim.cmd.buffer(tests)
  local before = #captures()
  wait('the lens', function()
    return (t.lenses(tests)['func BenchmarkPages(b *testing.B) {'] or ''):find('^profile')
  end)
  api.nvim_win_set_cursor(0, { t.lnum('func BenchmarkPages'), 0 })
  t.choose('profile') -- another lens records its memory
  vim.cmd('Sightline lens')
  wait('it is recorded', function()
    local s = require('sightline.status').last
    return s and s.recording and (s.samples or 0) > 0
  end)
  test('live numbers are drawn while it is recorded', function()
    vim.cmd.edit(t.example .. '/accesslog.go')
    wait('numbers', function()
      return t.number(t.lnum(hot))
    end)
  end)
  vim.cmd('Sightline stop')
  wait('the end is said', function()
    return t.heard('samples in')
  end)
  idle()
  same(before + 1, #captures())
end)

test('cancelling the progress keeps what was recorded', function()
  local before = #captures()
  vim.cmd("Sightline record sh -c while\\ :;do\\ :;done")
  wait('samples', function()
    local s = require('sightline.status').last
    return s and s.recording and (s.samples or 0) > 20
  end)
  local client = server.client()
  local token = wait('a progress that runs', function()
    for tok in pairs(client.progress.pending) do
      return tok
    end
  end)
  server.call(client, 'notify', 'window/workDoneProgress/cancel', { token = token })
  wait('the end is said', function()
    return t.heard('samples in')
  end)
  idle()
  local list = captures()
  same(before + 1, #list)
  assert(list[1].samples > 20, vim.inspect(list[1]))
end)

test('discard keeps nothing', function()
  local before = #captures()
  vim.cmd("Sightline record sh -c while\\ :;do\\ :;done")
  wait('samples', function()
    local s = require('sightline.status').last
    return s and s.recording and (s.samples or 0) > 5
  end)
  vim.cmd('Sightline discard')
  idle()
  vim.wait(200)
  same(before, #captures())
end)

test('a recording is stopped or dropped in each of its phases', function()
  local status = require('sightline.status')
  local update = status.update
  vim.cmd.buffer(tests)
  for how, phases in pairs({ stop = { 'building' }, discard = { 'building', 'symbolizing', 'storing' } }) do
    for _, phase in ipairs(phases) do
      local before, begun, fired = #captures(), false, false
      t.said = {}
      status.update = function(s)
        update(s)
        begun = begun or s.recording
        if s.phase == phase and not fired then
          fired = true
          vim.schedule(function()
            vim.cmd('Sightline ' .. how)
          end)
        elseif s.phase == 'recording' and phase ~= 'building' and (s.samples or 0) > 50 and begun ~= 'ending' then
          begun = 'ending' -- soon enough
          vim.schedule(function()
            vim.cmd('Sightline stop')
          end)
        end
      end
      api.nvim_win_set_cursor(0, { t.lnum('pages := Pages(logLines'), 0 })
      vim.cmd('Sightline profile')
      wait('it begins', function()
        return begun
      end)
      idle()
      status.update = update
      if how == 'stop' then
        local said = wait('what came of it', function()
          return t.heard('TestPages: ')
        end)
        local kept = said.text:find('samples in') and 1 or 0 -- the next phase may have begun before it was told
        assert(kept == 1 or said.text:find('stopped before it ran'), said.text)
        same(before + kept, #captures())
      elseif fired then -- a phase may pass before anybody is told of it
        local late = false -- when it was over already the person is told that nothing is recorded
        for _, said in ipairs(t.said) do
          late = late or said.text:find('nothing is being recorded', 1, true) ~= nil
        end
        if not late then
          same(before, #captures(), 'captures after discard at ' .. phase .. ': ' .. vim.inspect(t.said))
        end
      end
    end
  end
end)

test('a process is chosen, recorded and let go', function()
  local job = vim.system({ 'sh', '-c', 'while :;do :;done' })
  local before = #captures()
  local offered = t.choose(tostring(job.pid))
  vim.cmd('Sightline attach')
  wait('samples', function()
    local s = require('sightline.status').last
    return s and s.recording and (s.samples or 0) > 20
  end)
  assert(#offered > 0)
  vim.cmd('Sightline stop')
  wait('the end is said', function()
    return t.heard('samples in')
  end)
  idle()
  same(before + 1, #captures())
  assert(vim.uv.kill(job.pid, 0) == 0, 'the process was ended')
  job:kill(9)
end)

test('a test that does not compile says why, once', function()
  vim.cmd.buffer(tests)
  local text = t.read('accesslog_test.go')
  t.write('accesslog_test.go', (text:gsub('t.Fatalf%("', 't.Fatalg("', 1)))
  vim.cmd('edit!')
  api.nvim_win_set_cursor(0, { t.lnum('func TestPages'), 0 })
  wait('lenses', function() -- a cost stands behind it where the benchmark was stopped before it came to this file
    return (t.lenses(tests)['func TestPages(t *testing.T) {'] or ''):find('^profile')
  end)
  t.said = {}
  vim.cmd('Sightline profile')
  local said = wait('the error', function()
    return t.heard('Fatalg')
  end)
  same(vim.log.levels.ERROR, said.level)
  idle()
  same(1, #t.said)
  t.write('accesslog_test.go', text)
  vim.cmd('edit!')
end)

test('a launch target is completed, recorded by name, and chosen; mistakes in its file are shown', function()
  t.write('.sightline.json', [[{"targets": [
    {"name": "spin", "command": ["/bin/sh", "-c", "while [ $((i += 1)) -lt $TIMES ]; do :; done"], "env": {"TIMES": "300000"}},
    {"name": 7, "command": ["/bin/true"]}
  ]}]])
  vim.cmd.edit(t.example .. '/.sightline.json')
  local file = api.nvim_get_current_buf()
  local found = wait('the mistake', function()
    local d = vim.diagnostic.get(file)
    return d[1] and d
  end)
  same('targets[1].name is a number: make it a string', found[1].message)
  same(2, found[1].lnum)
  wait('the lens', function()
    return vim.tbl_contains(vim.tbl_values(t.lenses(file)), 'record spin')
  end)
  vim.cmd.buffer(tests)
  wait('the completion', function()
    return vim.tbl_contains(vim.fn.getcompletion('Sightline record sp', 'cmdline'), 'spin')
  end)
  local before = #captures()
  for i, start in ipairs({ function() vim.cmd('Sightline record spin') end, function()
    t.choose('while [')
    vim.cmd('Sightline target')
  end }) do
    start()
    wait('the end is said', function()
      return t.heard('spin: ')
    end)
    idle()
    same(before + i, #captures())
    same('spin', captures()[1].target)
    t.said = {}
  end
  vim.cmd.bwipeout(file)
  vim.fn.delete(t.example .. '/.sightline.json')
end)

test('stop without a recording says so', function()
  vim.cmd('Sightline stop')
  wait('it', function()
    return t.heard('nothing is being recorded')
  end)
end)

test('in a Go file without a test at the cursor the package is profiled', function()
  vim.cmd.edit(t.example .. '/accesslog.go')
  api.nvim_win_set_cursor(0, { 1, 0 })
  vim.cmd('Sightline profile')
  wait('it', function()
    local s = require('sightline.status').last
    return s and s.recording
  end)
  vim.cmd('Sightline stop')
  idle()
end)

test('progress is written into the message line and wiped away, but not what was said since', function()
  local echoed = {}
  local echo = api.nvim_echo
  api.nvim_echo = function(chunks, history, opts)
    echoed[#echoed + 1] = chunks[1][1]
    return echo(chunks, history, opts)
  end
  vim.cmd("Sightline record sh -c while\\ :;do\\ :;done")
  wait('progress', function()
    for _, text in ipairs(echoed) do
      if text:find('sample') then
        return true
      end
    end
  end)
  assert(echoed[1]:find('Profiling sh'), vim.inspect(echoed))
  vim.cmd('Sightline discard') -- of which nothing is said
  wait('its end', function()
    return echoed[#echoed] == ''
  end)
  idle()
  for _, text in ipairs(echoed) do
    assert(vim.fn.strdisplaywidth(text) <= vim.v.echospace, text)
  end

  echoed = {}
  vim.cmd("Sightline record sh -c while\\ :;do\\ :;done")
  wait('samples', function()
    local s = require('sightline.status').last
    return s and s.recording and (s.samples or 0) > 5
  end)
  vim.cmd('Sightline stop')
  wait('the end is said', function()
    return t.heard('samples in')
  end)
  idle()
  vim.wait(200)
  assert(#echoed > 0 and not vim.tbl_contains(echoed, ''), vim.inspect(echoed))
  api.nvim_echo = echo
end)

test('a long message is cut to the message line, and an error is not', function()
  local say = require('sightline.say')
  same('short', say.fit('short'))
  local cut = say.fit(('é𝄞'):rep(200))
  assert(vim.endswith(cut, '…') and vim.fn.strdisplaywidth(cut) < vim.v.echospace, cut)
end)

t.done()
