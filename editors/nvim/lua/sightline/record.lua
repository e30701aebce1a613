--- Recording: tests, programs, processes; and how it is ended.
local pick = require('sightline.pick')
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local M = {}

--- Runs a command that records. It answers when the recording is over; how it went the server says by
--- itself, except for an error.
local function run(command, args)
  server.execute(command, args)
end

local function uri(buf)
  return vim.uri_from_bufnr(buf or 0)
end

--- Profiles the test at the cursor; outside of one the tests of the package. A name is a pattern as
--- go test -run takes it; "package" all tests of the package; "memory" has the test at the cursor tell what
--- its lines allocate.
---@param name? string
function M.profile(name)
  if name == 'package' then
    run('sightline.profilePackage', { uri = uri() })
    return
  elseif name and name ~= 'memory' and name ~= '' then
    local bench = name:match('^Benchmark') and name or nil
    run('sightline.profileTest', { uri = uri(), run = not bench and name or nil, bench = bench })
    return
  end
  local buf, row = vim.api.nvim_get_current_buf(), vim.api.nvim_win_get_cursor(0)[1] - 1
  server.with(function(client)
    local params = {
      textDocument = { uri = uri(buf) },
      range = { start = { line = row, character = 0 }, ['end'] = { line = row, character = 0 } },
      context = { diagnostics = {}, triggerKind = 1 },
    }
    server.call(client, 'request', 'textDocument/codeAction', params, function(err, actions)
      if err then
        say.error(server.words(err, 'textDocument/codeAction'))
        return
      end
      for _, action in ipairs(actions or {}) do -- the innermost test comes first, the package last
        local command = type(action.command) == 'table' and action.command or action
        if command.command == 'sightline.stop' then
          say.warn('A recording is under way: :Sightline stop ends and keeps it, :Sightline discard drops it.')
          return
        end
        if vim.tbl_contains({ 'sightline.profileTest', 'sightline.profilePackage', 'sightline.createTargets' }, command.command) then
          local args = command.arguments and command.arguments[1]
          if name == 'memory' and command.command == 'sightline.profileTest' then
            args = vim.tbl_extend('force', args, { kinds = { 'heap' } })
          end
          run(command.command, args)
          return
        end
      end
      if vim.bo[buf].filetype ~= 'go' then
        say.warn('There is no test here that Sightline can run. :Sightline record COMMAND records any program.')
        return
      end
      run('sightline.profilePackage', { uri = uri(buf) })
    end, buf)
  end)
end

--- The launch targets that hold for the buffer, and what is wrong with the file that has them.
---@param f fun(result: sightline.TargetsResult)
function M.targets(f)
  server.request(protocol.methods.targets, server.near(vim.api.nvim_get_current_buf()), function(result)
    f(result or { targets = {}, problem = '' })
  end)
end

local function record_target(t)
  run('sightline.recordTarget', { name = t.name, uri = t.location.uri })
end

--- Records a launch target that is chosen; where there is none the file to write one into is opened.
function M.target()
  M.targets(function(result)
    if result.problem ~= '' then
      say.warn(result.problem)
    end
    local items = vim.list_extend({}, result.targets)
    items[#items + 1] = { name = '', text = (#items > 0 and 'edit' or 'write') .. ' .sightline.json', detail = '' }
    pick.select(items, {
      prompt = 'Record which launch target?',
      columns = function(t)
        return { t.name, t.text, t.detail }
      end,
    }, function(t)
      if t.location then
        record_target(t)
      else
        run('sightline.createTargets', server.near(vim.api.nvim_get_current_buf()))
      end
    end)
  end)
end

--- Records a program until it ends or is stopped: a command, or a launch target by its name. A target's
--- name comes before a program's, and may have blanks.
---@param command string[]
function M.record(command)
  if #command > 0 then
    local name = table.concat(command, ' ')
    M.targets(function(result)
      for _, t in ipairs(result.targets) do
        if t.name == name then
          record_target(t)
          return
        end
      end
      run('sightline.record', { command = command, dir = vim.fn.getcwd() })
    end)
    return
  end
  vim.ui.input({ prompt = 'Record the command: ', completion = 'shellcmd' }, function(line)
    if line and vim.trim(line) ~= '' then
      -- As typed to a shell.
      run('sightline.record', { command = { vim.o.shell, '-c', 'exec ' .. line }, dir = vim.fn.getcwd() })
    end
  end)
end

--- Records a process that runs: one that is given, or one that is chosen.
---@param pid? string
function M.attach(pid)
  if pid and pid ~= '' then
    if not pid:match('^%d+$') then
      say.error(("%s is no process: give the number of one, or nothing to choose."):format(pid))
      return
    end
    run('sightline.record', { pid = tonumber(pid) })
    return
  end
  server.request(protocol.methods.processes, nil, function(processes)
    pick.select(processes or {}, {
      prompt = 'Record which process?',
      none = 'There is no process that can be recorded.',
      ---@param p sightline.ProcessInfo
      columns = function(p)
        return { p.pid, p.name, p.cpu, p.memory, p.refused ~= '' and ('not possible: ' .. p.refused) or p.command }
      end,
      right = { true, false, true, true, false },
    }, function(p)
      if p.refused ~= '' then
        say.error(('Process %d (%s) cannot be recorded: %s'):format(p.pid, p.name, p.refused))
      else
        run('sightline.record', { pid = p.pid })
      end
    end)
  end)
end

function M.stop()
  server.execute('sightline.stop')
end

function M.discard()
  server.execute('sightline.discard')
end

--- Commands of lenses and actions that the plugin carries out, so that errors read as those of
--- :Sightline do. Each is called with an lsp.Command.
M.commands = {}
for _, name in ipairs({ 'profileTest', 'profilePackage', 'recordTarget', 'createTargets', 'stop', 'discard', 'goToFrame', 'clear' }) do
  M.commands['sightline.' .. name] = function(command)
    server.execute(command.command, command.arguments and command.arguments[1])
  end
end

return M
