--- The call tree in a buffer: rows are asked for when their parent is expanded, and lead to the source.
local highlight = require('sightline.highlight')
local pick = require('sightline.pick')
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local api = vim.api
local M = {}

local ns = api.nvim_create_namespace('sightline.tree')
local page = 100 -- rows that are asked for at a time
local deepest = 40 -- levels that are expanded by themselves along the hottest path
local head = 3 -- lines above the rows

---@class sightline.TreeNode
---@field row sightline.StackRow
---@field depth integer
---@field parent? sightline.TreeNode
---@field children? sightline.TreeNode[] once asked for
---@field more integer children that were not asked for yet
---@field open boolean
---@field asking? boolean

---@class sightline.Tree
---@field buf integer
---@field source table sightline.SourceRef
---@field before? table sightline.SourceRef of what is compared with
---@field view string
---@field focus? string
---@field filter table sightline.StackFilter
---@field root sightline.TreeNode whose children are the first rows
---@field lines table<integer, { node: sightline.TreeNode, more?: boolean }> by line of the buffer
---@field result? sightline.StacksResult the first
---@field generation integer answers to questions of an older one are dropped

local trees = {} ---@type table<integer, sightline.Tree>

-- Drawing.

--- A column of costs: shares stand below shares and weights below weights.
local function column(heading)
  local c = { share = 0, weight = 0 }
  local function parts(text)
    local share, weight = text:match('^(.-) · (.*)$')
    return share or text, weight
  end
  local function fill(text, width)
    return (' '):rep(width - vim.fn.strdisplaywidth(text)) .. text
  end
  function c.measure(text)
    local share, weight = parts(text)
    c.share = math.max(c.share, vim.fn.strdisplaywidth(share))
    c.weight = math.max(c.weight, weight and vim.fn.strdisplaywidth(weight) or 0)
  end
  function c.width()
    return math.max(#heading, c.share + (c.weight > 0 and c.weight + 3 or 0))
  end
  function c.text(text)
    local share, weight = parts(text)
    if text == '' then
      return fill('', c.width())
    end
    local rest = c.weight > 0 and (weight and ' · ' .. fill(weight, c.weight) or (' '):rep(c.weight + 3)) or ''
    return fill(fill(share, c.share) .. rest, c.width())
  end
  c.heading = function()
    return fill(heading, c.width())
  end
  return c
end

local function hottest(t)
  local most = 0
  for _, n in ipairs(t.root.children or {}) do
    most = math.max(most, math.abs(n.row.share))
  end
  return most
end

local function heat(t, row, most)
  if t.before then
    return row.total > 0 and 'SightlineGrew' or row.total < 0 and 'SightlineShrank' or 'SightlineHeat1'
  end
  return highlight.heat(most > 0 and row.share / most or 0)
end

local function place(location)
  if location and location ~= vim.NIL then
    return ('%s:%d'):format(vim.fs.basename(vim.uri_to_fname(location.uri)), location.line + 1)
  end
end

--- Writes text into a line, and remembers how its parts are highlighted.
local function builder()
  local b = { text = {}, marks = {}, width = 0 }
  function b.add(text, hl)
    if text ~= '' then
      b.marks[#b.marks + 1] = { b.width, b.width + #text, hl }
      b.text[#b.text + 1], b.width = text, b.width + #text
    end
    return b
  end
  return b
end

local function render(t)
  if not api.nvim_buf_is_valid(t.buf) then
    return
  end
  local shown = {}
  local function walk(n)
    for _, child in ipairs(n.children or {}) do
      shown[#shown + 1] = { node = child }
      if child.open then
        walk(child)
      end
    end
    if n.more > 0 then
      shown[#shown + 1] = { node = n, more = true }
    end
  end
  walk(t.root)

  local totals, selves = column('total'), column('self')
  for _, s in ipairs(shown) do
    if not s.more then
      totals.measure(s.node.row.text)
      selves.measure(s.node.row.selfText or '')
    end
  end

  local r, built = t.result, {}
  local summary = r and table.concat(vim.tbl_filter(function(s)
    return s ~= ''
  end, { r.about, r.text, r.filter }), ' · ') or ''
  built[1] = builder().add(' ' .. (r and r.title or ''), 'SightlineTitle')
  built[2] = builder().add(' ' .. summary, 'SightlineHeader')
  if r then
    built[2].add('   g? for keys', 'SightlineGuide')
  end
  built[3] = builder().add((' %s  %s    function'):format(totals.heading(), selves.heading()), 'SightlineHeader')
  t.lines = {}
  local most = hottest(t)
  for _, s in ipairs(shown) do
    local b = builder()
    local n = s.node
    if s.more then
      b.add((' '):rep(totals.width() + selves.width() + 7 + 2 * (n.depth + 1)), 'SightlineGuide')
      b.add(('… %d more'):format(n.more), 'SightlineMore')
    else
      b.add(' ' .. totals.text(n.row.text), heat(t, n.row, most))
      b.add('  ' .. selves.text(n.row.selfText or '') .. '  ', 'SightlineHeader')
      b.add(('  '):rep(n.depth) .. (not n.row.children and '  ' or n.open and '▾ ' or '▸ '), 'SightlineGuide')
      b.add(n.row.label, 'SightlineName')
    end
    built[#built + 1] = b
    t.lines[#built] = s
  end
  if #shown == 0 and r then
    built[#built + 1] = builder().add(' nothing: the filter lets no sample through, or there is none', 'SightlineHeader')
  end

  local view = api.nvim_get_current_buf() == t.buf and vim.fn.winsaveview()
  vim.bo[t.buf].modifiable = true
  api.nvim_buf_set_lines(t.buf, 0, -1, false, vim.tbl_map(function(b)
    return (table.concat(b.text):gsub('\n', ' '))
  end, built))
  vim.bo[t.buf].modifiable = false
  if view then
    vim.fn.winrestview(view)
  end
  api.nvim_buf_clear_namespace(t.buf, ns, 0, -1)
  for i, b in ipairs(built) do
    for _, m in ipairs(b.marks) do
      api.nvim_buf_set_extmark(t.buf, ns, i - 1, m[1], { end_col = m[2], hl_group = m[3] })
    end
    local s = t.lines[i]
    local at = s and not s.more and place(s.node.row.location)
    if at then
      api.nvim_buf_set_extmark(t.buf, ns, i - 1, 0, { virt_text = { { ' ' .. at, 'SightlinePlace' } } })
    end
  end
end

-- Asking.

--- Asks for (more of) a node's children.
---@param t sightline.Tree
---@param n sightline.TreeNode
---@param done? fun()
local function ask(t, n, done)
  if n.asking then
    return
  end
  n.asking = true
  local generation = t.generation
  local params = vim.tbl_extend('force', t.source, {
    filter = next(t.filter) and t.filter or vim.empty_dict(),
    view = t.view,
    focus = t.focus,
    node = n ~= t.root and n.row.node or nil,
    offset = n.children and #n.children or nil,
    limit = page,
    before = t.before,
  })
  local method = t.before and protocol.methods.diff or protocol.methods.stacks
  server.request(method, params, function(result, err)
    n.asking = nil
    if t.generation ~= generation or not api.nvim_buf_is_valid(t.buf) then
      return
    end
    if err then
      say.error(server.words(err, method))
      return
    end
    n.children = n.children or {}
    for _, row in ipairs(result.rows) do
      n.children[#n.children + 1] = { row = row, depth = n.depth + 1, parent = n, more = 0, open = false }
    end
    n.more, n.open = result.more or 0, true
    if n == t.root then
      t.result = result
      if result.capture ~= '' and not t.source.file then
        t.source = vim.tbl_extend('force', t.source, { capture = result.capture }) -- also when a newer one is recorded
      end
    end
    render(t)
    if done then
      done()
    end
  end, true)
end

--- Expands a node, and below it the path that most of it takes.
local function expand(t, n, deep, level)
  local function down()
    level = (level or 0) + 1
    local first = deep and n.children and n.children[1]
    if first and first.row.children and level < deepest and math.abs(first.row.share) >= 0.5 * math.abs(n.row.share) then
      expand(t, first, true, level)
    end
  end
  if n.row.children and not n.children then
    ask(t, n, down)
  elseif n.children then
    n.open = true
    render(t)
    down()
  end
end

local function load(t)
  t.generation = t.generation + 1
  t.root = { row = { share = 0, children = true }, depth = -1, more = 0, open = true }
  ask(t, t.root, function()
    local first = t.root.children[1]
    if first and t.view ~= protocol.views.by_name then
      expand(t, first, true)
    end
    if api.nvim_get_current_buf() == t.buf then
      api.nvim_win_set_cursor(0, { math.min(head + 1, api.nvim_buf_line_count(t.buf)), 0 })
    end
  end)
end

-- Acting on a row.

---@return { node: sightline.TreeNode, more?: boolean }?
local function at_cursor(t)
  return t.lines[api.nvim_win_get_cursor(0)[1]]
end

local function to_line(t, node)
  for line, s in pairs(t.lines) do
    if s.node == node and not s.more then
      api.nvim_win_set_cursor(0, { line, 0 })
      return
    end
  end
end

--- A window that shows files: the one before, else any, else a new one.
local function source_window()
  local function fits(win)
    return win ~= 0 and api.nvim_win_is_valid(win) and vim.bo[api.nvim_win_get_buf(win)].buftype == ''
      and api.nvim_win_get_config(win).relative == ''
  end
  local before = vim.fn.win_getid(vim.fn.winnr('#'))
  if fits(before) then
    return before
  end
  for _, win in ipairs(api.nvim_tabpage_list_wins(0)) do
    if fits(win) then
      return win
    end
  end
  vim.cmd('aboveleft split')
  return api.nvim_get_current_win()
end

local actions = {}

function actions.jump(t)
  local s = at_cursor(t)
  if not s then
    return
  end
  if s.more then
    ask(t, s.node)
    return
  end
  local row = s.node.row
  if not place(row.location) then
    say.info(row.name .. ' has no source here.')
    return
  end
  api.nvim_set_current_win(source_window())
  pick.go(row.location)
end

function actions.toggle(t)
  local s = at_cursor(t)
  if not s then
    return
  elseif s.more then
    ask(t, s.node)
  elseif s.node.open then
    s.node.open = false
    render(t)
  else
    expand(t, s.node)
  end
end

function actions.expand(t)
  local s = at_cursor(t)
  if s and s.more then
    ask(t, s.node)
  elseif s and not s.node.open then
    expand(t, s.node)
  end
end

function actions.collapse(t)
  local s = at_cursor(t)
  if not s then
    return
  end
  local n = s.node
  if not s.more and not n.open and n.parent and n.parent ~= t.root then
    n = n.parent
  end
  if n.open and n ~= t.root then
    n.open = false
    render(t)
    to_line(t, n)
  end
end

function actions.path(t)
  local s = at_cursor(t)
  if s and not s.more then
    expand(t, s.node, true)
  end
end

local function other_view(t, view, focus)
  t.view, t.focus = view, focus
  load(t)
end

function actions.callers(t)
  local s = at_cursor(t)
  if s and not s.more then
    other_view(t, protocol.views.callers, s.node.row.name)
  end
end

function actions.callees(t)
  local s = at_cursor(t)
  if s and not s.more then
    other_view(t, protocol.views.callees, s.node.row.name)
  end
end

function actions.view(t)
  other_view(t, t.view == protocol.views.call_tree and protocol.views.by_name or protocol.views.call_tree, nil)
end

function actions.preset(t)
  server.request(protocol.methods.presets, vim.empty_dict(), function(presets)
    pick.select(presets or {}, {
      prompt = 'Filter',
      none = 'There are no filters.',
      columns = function(p)
        return { p.name, p.detail }
      end,
    }, function(p)
      t.filter = { preset = p.name }
      load(t)
    end)
  end)
end

local function field(t, name, prompt)
  vim.ui.input({ prompt = prompt, default = t.filter[name] or '' }, function(text)
    if text then
      t.filter[name] = text ~= '' and text or nil
      load(t)
    end
  end)
end

function actions.include(t)
  field(t, 'include', 'Only stacks with: ')
end

function actions.exclude(t)
  field(t, 'exclude', 'Without stacks with: ')
end

function actions.reset(t)
  t.filter = {}
  load(t)
end

actions.reload = load

function actions.flame(t)
  require('sightline.flame').open({ source = t.source, before = t.before, focus = t.focus })
end

function actions.tooltip(t)
  local s = at_cursor(t)
  if s and not s.more and s.node.row.tooltip ~= '' then
    vim.lsp.util.open_floating_preview(vim.split(s.node.row.tooltip, '\n'), 'plaintext', { border = 'rounded', focus_id = 'sightline-tree' })
  end
end

-- Keys of the buffer: what they do and how that is said.
local keys = {
  { { '<CR>', 'gf' }, 'jump', 'go to the source' },
  { { '<Tab>', 'za' }, 'toggle', 'expand or collapse' },
  { { 'l', 'zo', '<Right>' }, 'expand', 'expand' },
  { { 'h', 'zc', '<Left>' }, 'collapse', 'collapse, or go to the caller' },
  { { 'E' }, 'path', 'expand the hottest path' },
  { { 'c' }, 'callers', 'who calls this function' },
  { { 'C' }, 'callees', 'what this function calls' },
  { { 'v' }, 'view', 'call tree or list of functions' },
  { { 'f' }, 'preset', 'choose a filter' },
  { { 'i' }, 'include', 'only stacks that match' },
  { { 'x' }, 'exclude', 'no stacks that match' },
  { { 'X' }, 'reset', 'no filter' },
  { { 'F' }, 'flame', 'flame graph of this' },
  { { 'K' }, 'tooltip', 'all that is known of the row' },
  { { 'R' }, 'reload', 'ask again' },
}

function actions.help()
  local lines = {}
  for _, k in ipairs(keys) do
    lines[#lines + 1] = ('%-16s %s'):format(table.concat(k[1], ' '), k[3])
  end
  lines[#lines + 1] = ('%-16s %s'):format('q', 'close')
  vim.lsp.util.open_floating_preview(lines, 'plaintext', { border = 'rounded', focus_id = 'sightline-help' })
end

---@class sightline.TreeRequest
---@field source? table sightline.SourceRef; what is shown, or the newest capture
---@field before? table sightline.SourceRef to show the difference to
---@field view? string
---@field focus? string

--- Opens a call tree, in the window of one that is open or a new one below.
---@param what? sightline.TreeRequest
---@return integer buf
function M.open(what)
  what = what or {}
  highlight.define()
  local view = what.view or protocol.views.call_tree
  local focus = what.focus
  if view ~= protocol.views.call_tree and view ~= protocol.views.by_name and not focus then
    view = protocol.views.call_tree
  end
  local win
  for _, w in ipairs(api.nvim_tabpage_list_wins(0)) do
    if vim.bo[api.nvim_win_get_buf(w)].filetype == 'sightline-tree' then
      win = w
    end
  end

  server.with(function() -- for the buffer that it was asked from
    if win and api.nvim_win_is_valid(win) then
      api.nvim_set_current_win(win)
    else
      vim.cmd('botright split')
      win = api.nvim_get_current_win()
      api.nvim_win_set_height(win, math.max(8, math.floor(vim.o.lines * 0.45)))
    end
    local buf = api.nvim_create_buf(false, true)
    vim.bo[buf].bufhidden, vim.bo[buf].swapfile, vim.bo[buf].buftype = 'wipe', false, 'nofile'
    local t = {
      buf = buf, source = what.source or {}, before = what.before, view = view, focus = focus,
      filter = {}, lines = {}, generation = 0, root = { row = { share = 0 }, depth = -1, more = 0, open = true },
    }
    trees[buf] = t
    api.nvim_buf_set_name(buf, ('sightline://tree/%d'):format(buf))
    api.nvim_win_set_buf(win, buf)
    local o = vim.wo[win]
    o.wrap, o.number, o.relativenumber, o.cursorline, o.signcolumn, o.foldcolumn, o.spell, o.list =
      false, false, false, true, 'no', '0', false, false
    vim.bo[buf].filetype = 'sightline-tree'
    vim.bo[buf].modifiable = false
    for _, k in ipairs(keys) do
      for _, lhs in ipairs(k[1]) do
        vim.keymap.set('n', lhs, function()
          actions[k[2]](t)
        end, { buffer = buf, nowait = true, desc = k[3] })
      end
    end
    vim.keymap.set('n', 'g?', actions.help, { buffer = buf, desc = 'help' })
    vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = buf, nowait = true, desc = 'close' })
    api.nvim_create_autocmd('BufWipeout', {
      buffer = buf,
      callback = function()
        trees[buf] = nil
      end,
    })
    render(t)
    load(t)
  end)

end

return M
