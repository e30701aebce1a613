--- One process in a buffer: what it uses now, its threads, what it has open and what grows. It is asked
--- for each second while a window shows the buffer, and not at all while none does.
local pick = require('sightline.pick')
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local api = vim.api
local M = {}

local ns = api.nvim_create_namespace('sightline.inspect')
local every = 1000 -- ms
local bars = { '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█' }
local history = 60 -- seconds that are drawn

---@class sightline.Inspection
---@field buf integer
---@field pid integer
---@field start? string of the first answer: another process of the number is an error
---@field cpu number[]
---@field memory number[]
---@field places table<integer, sightline.Location> by line of the buffer
---@field asking? boolean
---@field ended? boolean
---@field timer uv.uv_timer_t

local inspections = {} ---@type table<integer, sightline.Inspection> by buffer

--- How often a buffer has asked, for tests.
M.asked = 0

--- A line of bars; the most fills its height, or least does where that is more.
local function spark(values, least)
  local most, cells = least, {}
  for _, v in ipairs(values) do
    most = math.max(most, v)
  end
  for _, v in ipairs(values) do
    cells[#cells + 1] = bars[math.max(1, math.min(#bars, math.ceil(v / most * #bars)))]
  end
  return table.concat(cells)
end

local function keep(values, v)
  values[#values + 1] = v
  if #values > history then
    table.remove(values, 1)
  end
end

--- Draws an answer; what cannot be seen any more stays as it was last.
---@param x sightline.Inspection
---@param p sightline.ProcessResult
local function render(x, p)
  local lines, marks = {}, {}
  x.places = {}
  local function add(text, hl)
    lines[#lines + 1] = text
    if hl then
      marks[#marks + 1] = { #lines - 1, hl }
    end
  end
  local function fact(name)
    for _, f in ipairs(p.facts) do
      if f.name == name then
        return f.text
      end
    end
    return ''
  end
  add(p.title, 'SightlineTitle')
  add(p.command, 'SightlineHeader')
  if p.note ~= '' then
    add(p.note, 'SightlineHeader')
  end
  add('')
  add(('CPU       %9s  %s'):format(fact('CPU'), spark(x.cpu, 1)))
  add(('resident  %9s  %s'):format(fact('resident'), spark(x.memory, 1)))
  add('')
  local facts = {}
  for _, f in ipairs(p.facts) do
    if f.name ~= 'CPU' and f.name ~= 'resident' then
      facts[#facts + 1] = { f.name, f.text }
    end
  end
  for _, line in ipairs(pick.align(facts)) do
    add(line)
  end
  if #p.leaks > 0 then
    add('')
    add('Growing descriptors', 'SightlineTitle')
    for _, l in ipairs(p.leaks) do
      add(('%s %s: %s'):format(l.type, l.name, l.text), 'SightlineGrew')
      for _, line in ipairs(l.lines) do
        add('  ' .. line.text)
        if line.location and line.location ~= vim.NIL then
          x.places[#lines] = line.location
        end
      end
    end
  end
  local function section(title, rows, right, more)
    add('')
    add(('%s (%d)'):format(title, #rows + more), 'SightlineTitle')
    for _, line in ipairs(pick.align(rows, right)) do
      add(line)
    end
    if more > 0 then
      add(('and %d more'):format(more), 'SightlineMore')
    end
  end
  section('Threads', vim.tbl_map(function(t)
    return { t.text, t.tid, t.name, t.state, t.wait }
  end, p.threads), { true, true }, p.moreThreads)
  section('Open files', vim.tbl_map(function(f)
    return { f.fd, f.type, f.name }
  end, p.files), { true }, p.moreFiles)

  vim.bo[x.buf].modifiable = true
  api.nvim_buf_set_lines(x.buf, 0, -1, false, lines) -- cursors stay on the number of their line
  vim.bo[x.buf].modifiable, vim.bo[x.buf].modified = false, false
  api.nvim_buf_clear_namespace(x.buf, ns, 0, -1)
  for _, m in ipairs(marks) do
    api.nvim_buf_set_extmark(x.buf, ns, m[1], 0, { end_row = m[1] + 1, hl_group = m[2] })
  end
end

local function visible(x)
  return api.nvim_buf_is_valid(x.buf) and #vim.fn.win_findbuf(x.buf) > 0
end

---@param x sightline.Inspection
local function ask(x)
  if x.asking or x.ended or not visible(x) then
    return
  end
  x.asking = true
  M.asked = M.asked + 1
  server.request(protocol.methods.process, { pid = x.pid, start = x.start, leaks = true }, function(p, err)
    x.asking = false
    if x.ended or not api.nvim_buf_is_valid(x.buf) then
      return
    end
    if err or not p then
      x.ended = true
      x.timer:stop()
      local text = err and server.words(err, protocol.methods.process) or 'The server said nothing.'
      vim.bo[x.buf].modifiable = true
      api.nvim_buf_set_lines(x.buf, 0, 0, false, { text })
      vim.bo[x.buf].modifiable, vim.bo[x.buf].modified = false, false
      api.nvim_buf_set_extmark(x.buf, ns, 0, 0, { end_row = 1, hl_group = 'SightlineGrew' })
      return
    end
    x.start = p.start
    keep(x.cpu, p.cpu)
    keep(x.memory, p.memory)
    render(x, p)
  end, true)
end

--- Goes to the line that the cursor's row names, in the window that was used before.
local function go(x)
  local place = x.places[api.nvim_win_get_cursor(0)[1]]
  if not place then
    say.info('This row names no line of a source.')
    return
  end
  local here = api.nvim_get_current_win()
  vim.cmd('wincmd p')
  if api.nvim_get_current_win() == here then
    vim.cmd('aboveleft split')
  end
  pick.go(place)
end

--- Shows a process.
---@param pid integer
function M.show(pid)
  local name = 'sightline://process/' .. pid
  local old = vim.fn.bufnr('^' .. vim.fn.escape(name, '[]*?') .. '$')
  if old ~= -1 then
    api.nvim_buf_delete(old, { force = true })
  end
  require('sightline.highlight').define()
  vim.cmd('botright new')
  local buf = api.nvim_get_current_buf()
  vim.bo[buf].buftype, vim.bo[buf].bufhidden, vim.bo[buf].swapfile, vim.bo[buf].undolevels = 'nofile', 'hide', false, -1
  vim.bo[buf].filetype = 'sightline-process'
  api.nvim_buf_set_name(buf, name)
  vim.bo[buf].modifiable = false
  vim.wo.wrap, vim.wo.number, vim.wo.relativenumber = false, false, false
  local x = { buf = buf, pid = pid, cpu = {}, memory = {}, places = {}, timer = assert(vim.uv.new_timer()) }
  inspections[buf] = x
  vim.keymap.set('n', 'q', '<Cmd>bwipeout<CR>', { buffer = buf, nowait = true, desc = 'close' })
  vim.keymap.set('n', '<CR>', function() go(x) end, { buffer = buf, desc = 'go to the line that opened these' })
  api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    once = true,
    callback = function()
      x.ended = true
      x.timer:stop()
      x.timer:close()
      inspections[buf] = nil
    end,
  })
  x.timer:start(every, every, vim.schedule_wrap(function()
    if inspections[buf] == x then
      ask(x)
    end
  end))
  ask(x)
end

--- Shows a process: one that is given, or one that is chosen.
---@param pid? string
function M.open(pid)
  if pid and pid ~= '' then
    if not pid:match('^%d+$') then
      say.error(('%s is no process: give the number of one, or nothing to choose.'):format(pid))
      return
    end
    M.show(tonumber(pid))
    return
  end
  server.request(protocol.methods.processes, nil, function(processes)
    pick.select(processes or {}, {
      prompt = 'Look into which process?',
      none = 'There is no process.',
      ---@param p sightline.ProcessInfo
      columns = function(p)
        return { p.pid, p.name, p.cpu, p.memory, p.command }
      end,
      right = { true, false, true, true, false },
    }, function(p)
      M.show(p.pid)
    end)
  end)
end

return M
