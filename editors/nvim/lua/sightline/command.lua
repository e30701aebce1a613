--- :Sightline and its completion.
local say = require('sightline.say')

local M = {}

---@class sightline.Subcommand
---@field desc string
---@field run fun(args: string[], c: table)
---@field complete? fun(args: string[], lead: string): string[]

local function words(...)
  local list = { ... }
  return function()
    return list
  end
end

--- Names of the tests of the buffer's file.
local function tests()
  local names = {}
  for _, line in ipairs(vim.api.nvim_buf_get_lines(0, 0, -1, false)) do
    names[#names + 1] = line:match('^func ((Test[%w_]*))%(') or line:match('^func (Benchmark[%w_]*)%(')
      or line:match('^func (Fuzz[%w_]*)%(') or line:match('^func (Example[%w_]*)%(')
  end
  return names
end

--- Identifiers of captures, if the server answers at once.
local function captures()
  local server = require('sightline.server')
  local client = server.client(vim.api.nvim_get_current_buf())
  if not client then
    return { '@', '@2' }
  end
  local ids = { '@', '@2' }
  local answer = server.call(client, 'request_sync', require('sightline.protocol').methods.captures, nil, 300, 0)
  for _, c in ipairs(answer and answer.result or {}) do
    ids[#ids + 1] = c.id
  end
  return ids
end

--- Names of launch targets, if the server answers at once. A name with blanks is completed word by word
--- by nobody, so it is left out.
local function targets()
  local server = require('sightline.server')
  local buf = vim.api.nvim_get_current_buf()
  local client = server.client(buf)
  if not client then
    return {}
  end
  local answer = server.call(client, 'request_sync', require('sightline.protocol').methods.targets, server.near(buf), 300, 0)
  local names = {}
  for _, t in ipairs(answer and answer.result and answer.result.targets or {}) do
    if not t.name:find('%s') then
      names[#names + 1] = t.name
    end
  end
  return names
end

local function files(lead)
  return vim.fn.getcompletion(lead, 'file')
end

---@type table<string, sightline.Subcommand>
M.subcommands = {
  profile = {
    desc = 'profile the test at the cursor, a test by name, or all of the package',
    run = function(args) require('sightline.record').profile(args[1]) end,
    complete = function()
      return vim.list_extend({ 'package', 'memory' }, tests())
    end,
  },
  record = {
    desc = 'record a program until it ends: a launch target by its name, or a command',
    run = function(args) require('sightline.record').record(args) end,
    complete = function(args, lead)
      if #args > 1 then
        return vim.fn.getcompletion(lead, 'file')
      end
      return vim.list_extend(targets(), lead ~= '' and vim.fn.getcompletion(lead, 'shellcmd') or {})
    end,
  },
  target = {
    desc = 'choose a launch target of .sightline.json and record it',
    run = function() require('sightline.record').target() end,
  },
  attach = {
    desc = 'record a process that runs',
    run = function(args) require('sightline.record').attach(args[1]) end,
  },
  inspect = {
    desc = 'what a process uses and has open now',
    run = function(args) require('sightline.inspect').open(args[1]) end,
  },
  stop = {
    desc = 'end the recording and keep it',
    run = function() require('sightline.record').stop() end,
  },
  discard = {
    desc = 'end the recording and drop it',
    run = function() require('sightline.record').discard() end,
  },
  captures = {
    desc = 'list what was recorded',
    run = function() require('sightline.capture').list() end,
  },
  open = {
    desc = "show a capture's costs, or another tool's file",
    run = function(args) require('sightline.capture').open(args[1]) end,
    complete = function(_, lead)
      return vim.list_extend(captures(), files(lead))
    end,
  },
  clear = {
    desc = 'show nothing until something new is recorded',
    run = function() require('sightline.capture').clear() end,
  },
  metric = {
    desc = 'switch between total and self, percent and time, CPU and memory',
    run = function(args) require('sightline.capture').metric(args) end,
    complete = words('total', 'self', 'both', 'percent', 'time', 'cpu', 'alloc', 'in-use', 'blocked', 'contention', 'first'),
  },
  hot = {
    desc = 'the costliest lines or functions as a quickfix list; with ! in a picker',
    run = function(args, c)
      local what, choose, all = nil, c.bang, false
      for _, a in ipairs(args) do
        if a == 'lines' or a == 'functions' then
          what = a
        elseif a == 'pick' then
          choose = true
        elseif a == 'all' then
          all = true
        else
          say.error(('There are no hottest %s: give lines or functions, pick, all.'):format(a))
          return
        end
      end
      require('sightline.navigate').hot(what, choose, all)
    end,
    complete = words('lines', 'functions', 'pick', 'all'),
  },
  next = {
    desc = 'go to the next hot line',
    run = function() require('sightline.navigate').next() end,
  },
  prev = {
    desc = 'go to the previous hot line',
    run = function() require('sightline.navigate').prev() end,
  },
  callers = {
    desc = 'who calls the function at the cursor',
    run = function() require('sightline.navigate').callers() end,
  },
  callees = {
    desc = 'what the function at the cursor calls',
    run = function() require('sightline.navigate').callees() end,
  },
  tree = {
    desc = 'the call tree, another view, or that of a file',
    run = function(args)
      local view, source
      for _, a in ipairs(args) do
        if vim.tbl_contains({ 'call-tree', 'by-name' }, a) then
          view = a
        elseif a:find('[/.]') and vim.fn.filereadable(vim.fn.expand(a)) == 1 then
          source = { file = vim.fn.fnamemodify(vim.fn.expand(a), ':p') }
        else
          source = { capture = a }
        end
      end
      require('sightline.tree').open({ view = view, source = source })
    end,
    complete = function(_, lead)
      return vim.list_extend(vim.list_extend({ 'call-tree', 'by-name' }, captures()), files(lead))
    end,
  },
  flame = {
    desc = 'the flame graph as a picture',
    run = function(args)
      require('sightline.flame').open({ source = args[1] and { capture = args[1] } or nil })
    end,
    complete = captures,
  },
  diff = {
    desc = 'compare two captures',
    run = function(args) require('sightline.capture').diff(args[1], args[2]) end,
    complete = captures,
  },
  doctor = {
    desc = 'what can be recorded here, and what would help',
    run = function() require('sightline.doctor').open() end,
  },
  hover = {
    desc = 'what this line costs, in full',
    run = function() require('sightline.navigate').hover() end,
  },
  lens = {
    desc = 'run the lens of this line',
    run = function() vim.lsp.codelens.run() end,
  },
  toggle = {
    desc = 'hide or show numbers and lenses',
    run = function() require('sightline.layer').toggle() end,
  },
  restart = {
    desc = 'start the server anew',
    run = function() require('sightline.server').restart() end,
  },
  log = {
    desc = "open the server's log",
    run = function()
      vim.cmd('tabedit ' .. vim.fn.fnameescape(require('sightline.server').log()))
      vim.cmd('normal! G')
    end,
  },
}

local function names()
  local list = vim.tbl_keys(M.subcommands)
  table.sort(list)
  return list
end

--- Runs :Sightline.
---@param c table as nvim_create_user_command() gives it
function M.run(c)
  local args = vim.list_slice(c.fargs, 2)
  local name = c.fargs[1]
  if not name then
    vim.ui.select(names(), {
      prompt = 'Sightline',
      format_item = function(n)
        return ('%-10s %s'):format(n, M.subcommands[n].desc)
      end,
    }, function(n)
      if n then
        M.subcommands[n].run({}, c)
      end
    end)
    return
  end
  local sub = M.subcommands[name]
  if not sub then
    say.error(('There is no :Sightline %s: it has %s.'):format(name, table.concat(names(), ', ')))
    return
  end
  sub.run(args, c)
end

--- Completes :Sightline.
---@param lead string
---@param line string
---@param pos integer
---@return string[]
function M.complete(lead, line, pos)
  local before = vim.split(line:sub(1, pos):gsub('^.-Sightline!?%s*', ''), '%s+')
  local offered
  if #before <= 1 then
    offered = names()
  else
    local sub = M.subcommands[before[1]]
    offered = sub and sub.complete and sub.complete(vim.list_slice(before, 2), lead) or {}
  end
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, offered)
end

return M
