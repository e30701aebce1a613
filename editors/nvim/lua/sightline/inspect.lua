--- One process in a buffer: what it uses now, where its memory is, its threads, what it has open and what
--- grows. It is asked for each second while a window shows the buffer, and not at all while none does.
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

-- What bars of kinds are drawn with: a letter for a terminal without colors, and a group.
local kinds = {
  ['Image'] = { 'i', 'SightlineImage' },
  ['Mapped file'] = { 'f', 'SightlineMappedFile' },
  ['Shareable'] = { 's', 'SightlineShareable' },
  ['Heap'] = { 'h', 'SightlineHeap' },
  ['Managed heap'] = { 'g', 'SightlineManagedHeap' },
  ['Runtime metadata'] = { 'm', 'SightlineRuntimeMetadata' },
  ['Stack'] = { 'k', 'SightlineStack' },
  ['Private data'] = { 'p', 'SightlinePrivateData' },
}
local width = 72 -- of the bar

---@class sightline.Inspection
---@field buf integer
---@field pid integer
---@field start? string of the first answer: another process of the number is an error
---@field cpu number[]
---@field memory number[]
---@field kinds table<string, number[]> resident bytes over time, by kind
---@field map_time? integer of the map that was kept last
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

--- Keeps what each kind of memory has, so that all lists end with the same moment.
---@param x sightline.Inspection
---@param m sightline.ProcessMap
local function keep_kinds(x, m)
  if m.time == x.map_time then
    return
  end
  x.map_time = m.time
  local now = {}
  for _, k in ipairs(m.kinds) do
    if k.resident > 0 then
      now[k.name] = k.resident
      x.kinds[k.name] = x.kinds[k.name] or {}
    end
  end
  for name, values in pairs(x.kinds) do
    keep(values, now[name] or 0)
  end
end

--- Lines of at most so many characters that a sentence is put into; a longer word has one of its own.
---@param text string
---@param room integer
---@return string[]
local function wrap(text, room)
  local lines = { '' }
  for word in text:gmatch('%S+') do
    local last = lines[#lines]
    if last == '' then
      lines[#lines] = word
    elseif vim.fn.strdisplaywidth(last) + 1 + vim.fn.strdisplaywidth(word) <= room then
      lines[#lines] = last .. ' ' .. word
    else
      lines[#lines + 1] = word
    end
  end
  return lines
end

--- Adds where the memory is: kinds as one bar with the table beneath, how each changed, what holds it.
---@param x sightline.Inspection
---@param m sightline.ProcessMap
---@param add fun(text: string, hl?: string)
---@param paint fun(from: integer, to: integer, hl: string) paints bytes of the line that was added last
---@param lines_of fun(lines: sightline.ProcessLine[])
local function render_map(x, m, add, paint, lines_of)
  keep_kinds(x, m)
  add('')
  add('Memory', 'SightlineTitle')
  if m.text ~= '' then
    add(m.text)
  end
  if m.note ~= '' then
    add(m.note, 'SightlineHeader')
  end
  local cells, at, used, sum = {}, 0, 0, 0
  for _, k in ipairs(m.kinds) do
    if k.resident > 0 and m.resident > 0 then
      sum = sum + k.resident
      -- Ends are rounded, so that all cells together are the width; each kind that is there has one.
      local to = math.max(used + 1, math.floor(sum / m.resident * width + 0.5))
      local text = ((kinds[k.name] or { '?' })[1]):rep(to - used)
      cells[#cells + 1] = { text, at, at + #text, (kinds[k.name] or {})[2] }
      at, used = at + #text, to
    end
  end
  if #cells > 0 then
    add(table.concat(vim.tbl_map(function(c) return c[1] end, cells)))
    for _, c in ipairs(cells) do
      if c[4] then
        paint(c[2], c[3], c[4])
      end
    end
    add('')
  end
  if #m.kinds > 0 then
    local rows, right = { { '', 'Kind', 'Share', 'Over time' } }, { false, false, true, false }
    for _, c in ipairs(m.columns) do
      table.insert(rows[1], c.name)
      right[#right + 1] = true
    end
    for _, k in ipairs(m.kinds) do
      local row = { (kinds[k.name] or { '' })[1], k.name, k.share, x.kinds[k.name] and spark(x.kinds[k.name], 1) or '' }
      vim.list_extend(row, k.cells)
      rows[#rows + 1] = row
    end
    for i, line in ipairs(pick.align(rows, right)) do
      add(line, i == 1 and 'SightlineHeader' or nil)
      local group = i > 1 and (kinds[m.kinds[i - 1].name] or {})[2]
      if group then
        paint(0, 1, group)
      end
    end
  end
  if #m.terms > 0 then
    add('')
    add('What holds it', 'SightlineTitle')
    for i, line in ipairs(pick.align(vim.tbl_map(function(t)
      return { t.name, t.text, t.share, t.number, '' }
    end, m.terms), { false, true, true, true })) do
      add(line)
      for _, part in ipairs(wrap(m.terms[i].advice, math.max(vim.o.columns - 8, 40))) do
        add('    ' .. part, 'SightlineHeader')
      end
      lines_of(m.terms[i].lines)
    end
    add(m.sum, 'SightlineHeader')
  end
  if #m.stacks > 0 then
    add('')
    add('Stacks of goroutines', 'SightlineTitle')
    lines_of(vim.tbl_map(function(g)
      return vim.tbl_extend('force', g.line, { text = ('%9s  %s'):format(g.size, g.line.text) })
    end, m.stacks))
  end
end

--- Adds the regions of memory, which are many, so they stand last.
local function render_regions(m, add, lines_of)
  if #m.regions == 0 then
    return
  end
  add('')
  add(('Regions (%d)'):format(#m.regions + m.more), 'SightlineTitle')
  for i, line in ipairs(pick.align(vim.tbl_map(function(r)
    return { r.start, r.size, r.resident, r.protection, r.kind, r.name }
  end, m.regions), { true, true, true })) do
    add(line)
    lines_of(m.regions[i].lines)
  end
  if m.more > 0 then
    add(('and %d more'):format(m.more), 'SightlineMore')
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
  local function paint(from, to, hl)
    marks[#marks + 1] = { #lines - 1, hl, from, to }
  end
  local function lines_of(all)
    for _, line in ipairs(all) do
      add('  ' .. line.text, 'SightlinePlace')
      if line.location and line.location ~= vim.NIL then
        x.places[#lines] = line.location
      end
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
  local map = p.map ~= vim.NIL and p.map or nil
  if map then
    render_map(x, map, add, paint, lines_of)
  end
  if #p.leaks > 0 then
    add('')
    add('Growing descriptors', 'SightlineTitle')
    for _, l in ipairs(p.leaks) do
      add(('%s %s: %s'):format(l.type, l.name, l.text), 'SightlineGrew')
      lines_of(l.lines)
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
  if map then
    render_regions(map, add, lines_of)
  end

  vim.bo[x.buf].modifiable = true
  api.nvim_buf_set_lines(x.buf, 0, -1, false, lines) -- cursors stay on the number of their line
  vim.bo[x.buf].modifiable, vim.bo[x.buf].modified = false, false
  api.nvim_buf_clear_namespace(x.buf, ns, 0, -1)
  for _, m in ipairs(marks) do
    if m[3] then
      api.nvim_buf_set_extmark(x.buf, ns, m[1], m[3], { end_col = m[4], hl_group = m[2] })
    else
      api.nvim_buf_set_extmark(x.buf, ns, m[1], 0, { end_row = m[1] + 1, hl_group = m[2] })
    end
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
  server.request(protocol.methods.process, { pid = x.pid, start = x.start, leaks = true, map = true }, function(p, err)
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
  local x = { buf = buf, pid = pid, cpu = {}, memory = {}, kinds = {}, places = {}, timer = assert(vim.uv.new_timer()) }
  inspections[buf] = x
  vim.keymap.set('n', 'q', '<Cmd>bwipeout<CR>', { buffer = buf, nowait = true, desc = 'close' })
  vim.keymap.set('n', '<CR>', function() go(x) end, { buffer = buf, desc = 'go to the line that is named here' })
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
