-- What a user has who may record nothing but programs of his own: nvim_test.go runs this as one, where it
-- may. SIGHTLINE_OTHER is a process of another user.
local t = require('harness')
local test, wait, same = t.test, t.wait, t.same
local server = require('sightline.server')
local protocol = require('sightline.protocol')

local hot = 'pattern := regexp.MustCompile('
local other = vim.env.SIGHTLINE_OTHER

require('sightline').setup()
local buf = t.edit('accesslog.go')

local function doctor()
  local report
  server.request(protocol.methods.doctor, nil, function(r)
    report = r
  end)
  return wait('the doctor', function()
    return report
  end)
end

--- What has to be done to record other users' processes, in the doctor's words.
local function remedy()
  for _, e in ipairs(doctor().engines) do
    if e.engine == 'perf' and e.what:find("other users' processes", 1, true) then
      assert(not e.works and e.remedy ~= '', vim.inspect(e))
      return e.remedy
    end
  end
  error('the doctor knows nothing of other users: ' .. vim.inspect(doctor().engines))
end

local function recorded()
  return t.heard('samples in')
end

if other then
  test("another user's process is refused with the command that helps", function()
    vim.cmd('Sightline attach ' .. other)
    local said = wait('why', function()
      return t.said[1]
    end)
    same(vim.log.levels.ERROR, said.level)
    assert(said.text:find('process ' .. other, 1, true) and said.text:find('record as that user or as root', 1, true), said.text)
    assert(said.text:find('doctor --fix', 1, true) or said.text:find(remedy(), 1, true), said.text)
    assert(said.text:find('CAP_', 1, true), said.text)
    same(1, #t.said)
  end)

  test("another user's process is listed with why it cannot be recorded", function()
    local offered = t.choose(other .. '  ')
    vim.cmd('Sightline attach')
    local said = wait('why', function()
      return t.heard('cannot be recorded')
    end)
    same(vim.log.levels.ERROR, said.level)
    assert(said.text:find('it belongs to root', 1, true) and said.text:find(remedy(), 1, true), said.text)
    assert(#offered > 0)
  end)

  test('the whole machine is refused with the command that helps', function()
    local answered
    server.execute('sightline.record', { machine = true }, function(_, err)
      answered = err or 'recorded'
    end, true)
    local err = wait('why', function()
      return answered
    end)
    assert(type(err) == 'table' and err.message:find('CAP_', 1, true), vim.inspect(err))
  end)
end

test('a program of their own is recorded all the same', function()
  if not doctor().healthy then -- perf_event_paranoid is above 2 here
    vim.cmd('Sightline record ./accesslog.test -test.run TestPages')
    local said = wait('why', function()
      return t.said[1]
    end)
    assert(said.text:find('perf_event_paranoid', 1, true), said.text)
    return
  end
  vim.cmd('cd ' .. t.example)
  vim.cmd('Sightline record ./accesslog.test -test.run TestPages')
  wait('the end is said', recorded)
  same(1, #t.said)
  wait('numbers', function()
    return t.number(t.lnum(hot), buf)
  end)
  assert(t.row(hot):find(t.cost .. '$'), t.screen())
end)

t.done()
