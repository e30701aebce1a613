-- The server's life: found or not, of another version, crashing; and permissions that are missing.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local api = vim.api
local config = require('sightline.config')
local protocol = require('sightline.protocol')
local server = require('sightline.server')
local say = require('sightline.say')

local hot = 'pattern := regexp.MustCompile('
server.first_delay = 50
require('sightline').setup()
local buf = t.edit('accesslog.go')

local function pid()
  local found = vim.fn.systemlist({ 'pgrep', '-P', tostring(vim.uv.os_getpid()), '-x', 'sightline' })
  return tonumber(found[1] or '')
end

local function numbers()
  return wait('numbers', function()
    return t.number(t.lnum(hot), buf)
  end)
end

local function daemon()
  local out = vim.system({ 'sightline', 'daemon', 'status', '--json' }, { text = true }):wait()
  return vim.json.decode(out.stdout)
end

local function gone()
  for _, client in ipairs(vim.lsp.get_clients({ name = 'sightline' })) do
    server.stopping = client.id
    server.call(client, 'stop')
  end
  wait('no client', function()
    return #vim.lsp.get_clients({ name = 'sightline' }) == 0
  end)
end

test('a crash is said once with the log, and the server is started again', function()
  local before = numbers()
  local first = wait('the process', pid)
  vim.uv.kill(first, 9)
  wait('it is said', function()
    return t.heard('by signal 9')
  end)
  wait('another process', function()
    local p = pid()
    return p and p ~= first
  end)
  wait('numbers are back', function()
    return t.number(t.lnum(hot), buf) == before
  end)
  vim.wait(300)
  same(1, #t.said)
  assert(t.said[1].text:find(server.log(), 1, true), t.said[1].text)
end)

test('a daemon that crashes is said with its log, another is started, and numbers are back', function()
  local before = numbers()
  local d = daemon()
  assert(d.running and #d.sessions == 1, vim.inspect(d))
  local first = wait('the process', pid)
  vim.uv.kill(d.pid, 9)
  wait('it is said', function()
    return t.heard(("daemon (process %d)"):format(d.pid))
  end)
  wait('another process', function()
    local p = pid()
    return p and p ~= first
  end)
  wait('numbers are back', function()
    return t.number(t.lnum(hot), buf) == before
  end)
  local now = daemon()
  assert(now.running and now.pid ~= d.pid and #now.sessions == 1, vim.inspect(now))
  same(d.log, server.log())
end)

test('a server that crashes again and again is let be, until it is asked for', function()
  local last
  for _ = 1, 4 do
    local p = wait('the process', function()
      local now = pid()
      return now ~= last and now
    end)
    last = p
    vim.uv.kill(p, 9)
    wait('it ends', function()
      return pid() ~= p
    end)
  end
  wait('it is said', function()
    return t.heard('is not started again')
  end)
  same(1, #t.said)
  vim.wait(300)
  same(nil, pid())
  vim.cmd('Sightline restart')
  wait('the process', pid)
  numbers()
end)

test('restart starts another process and says nothing', function()
  local first = wait('the process', pid)
  vim.cmd('Sightline restart')
  wait('another process', function()
    local p = pid()
    return p and p ~= first
  end)
  numbers()
  same({}, t.said)
end)

test('a server that is stopped by hand stays away', function()
  for _, client in ipairs(vim.lsp.get_clients({ name = 'sightline' })) do
    server.call(client, 'stop')
  end
  wait('no process', function()
    return not pid()
  end)
  vim.wait(300)
  same(nil, pid())
  same({}, t.numbers(buf))
  same({}, t.said)
end)

-- From here on the server is one of ours.

local asked

local function use(methods, version, has)
  gone()
  say.again('mismatch')
  asked = t.fake(methods, version, has)
  server.start(buf)
  wait('the server', function()
    local c = vim.lsp.get_clients({ bufnr = buf, name = 'sightline' })[1]
    return c and c.initialized
  end)
  vim.wait(50)
end

test('a server without what the plugin needs is named, once', function()
  use({}, 'v0.1.0', { 'sightline/lines', 'sightline/captures', 'sightline/changed' })
  local said = wait('it', function()
    return t.heard('is older than the plugin')
  end)
  assert(said.text:find('v0.1.0', 1, true) and said.text:find('sightline/flame', 1, true), said.text)
  vim.cmd('Sightline flame')
  wait('why there is none', function()
    return t.heard('does not know sightline/flame')
  end)
  server.start(buf)
  vim.wait(100)
  same(2, #t.said)
end)

test('a server of another version is named', function()
  use({}, 'v3.2.1')
  local said = wait('it', function()
    return t.heard('are of different versions')
  end)
  assert(said.text:find('3.2.1', 1, true) and said.text:find(require('sightline.version'), 1, true), said.text)
  use({}, 'devel')
  use({}, 'v0.0.0-20261121-abcdef')
  use({}, 'v' .. require('sightline.version'))
  same(1, #t.said)
end)

test('a missing permission is one message with the command to run', function()
  local why = 'record process 7: kernel.perf_event_paranoid is 4; run: sudo sysctl kernel.perf_event_paranoid=2'
  use({
    ['workspace/executeCommand'] = function()
      return nil, { code = -32803, message = why }
    end,
  }, 'devel')
  vim.cmd('Sightline attach 7')
  local said = wait('it', function()
    return t.heard('sudo sysctl')
  end)
  same({ { text = why, level = vim.log.levels.ERROR } }, t.said)
  same(why, said.text)
end)

test('a process that may not be recorded is listed with why', function()
  use({
    [protocol.methods.processes] = function()
      return {
        { pid = 1, name = 'init', command = '/sbin/init', user = 'root', cpu = '0.1%', memory = '12.0 MiB', go = false, refused = 'it is of another user; run: sudo setcap …' },
        { pid = 4711, name = 'server', command = './server -addr :80', user = 'me', cpu = '99.0%', memory = '1.0 GiB', go = true, refused = '' },
      }
    end,
  }, 'devel')
  local offered = t.choose('init')
  vim.cmd('Sightline attach')
  local said = wait('it', function()
    return t.heard('cannot be recorded: it is of another user')
  end)
  same(vim.log.levels.ERROR, said.level)
  assert(not vim.tbl_contains(asked, 'workspace/executeCommand'))
  same('   1  init     0.1%  12.0 MiB  not possible: it is of another user; run: sudo setcap …', offered[1])
end)

test('the doctor is shown in a window', function()
  use({
    [protocol.methods.doctor] = function()
      return {
        healthy = false,
        text = 'yes  perf: own processes\nno   bpf: ring buffer',
        engines = { { engine = 'bpf', what = 'ring buffer', works = false, why = 'not permitted', remedy = 'sudo setcap cap_bpf+ep x' } },
      }
    end,
  }, 'devel')
  vim.cmd('Sightline doctor')
  wait('the report', function()
    local s = t.screen()
    return s:find('no   bpf: ring buffer', 1, true) and s:find('sudo setcap cap_bpf', 1, true)
  end)
  t.type('q')
  same('', vim.bo.buftype)
end)

test('the flame graph is written and opened, or its path is said', function()
  local asked_with
  use({
    [protocol.methods.flame] = function(params)
      asked_with = params
      return { capture = 'x', title = 'go test ./fib', text = '', depth = 0, names = {}, labels = {}, modules = {}, locations = {}, boxes = {}, svg = '<svg/>' }
    end,
  }, 'devel')
  local opened
  vim.ui.open = function(path)
    opened = path
    return nil, 'there is no program for it'
  end
  vim.cmd('Sightline flame @2')
  local said = wait('it', function()
    return t.heard('Flame graph of go test ./fib')
  end)
  same({ '<svg/>' }, vim.fn.readfile(opened))
  assert(said.text:find(opened, 1, true), said.text)
  same('@2', asked_with.capture)
  same(true, asked_with.svg)
end)

gone()
t.real()

test('a server that is not there is said once, and whenever somebody asks', function()
  config.set({ cmd = { '/nowhere/sightline' } })
  vim.cmd('edit ' .. t.example .. '/accesslog_test.go')
  wait('it', function()
    return t.heard('/nowhere/sightline')
  end)
  vim.cmd('edit ' .. t.example .. '/accesslog.go')
  vim.wait(100)
  same(1, #t.said)
  vim.cmd('Sightline hot')
  wait('it again', function()
    return #t.said == 2
  end)
  config.set({})
end)

t.done()
