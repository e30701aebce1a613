--- What is drawn on a document: the costs of its lines and its lenses.
---
--- The server knows where numbers belong; it is asked again a moment after each edit. Until it answers,
--- numbers move with the text, and one whose line has other text than it was given for goes at once.
local highlight = require('sightline.highlight')
local protocol = require('sightline.protocol')
local server = require('sightline.server')

local api = vim.api
local M = {}

local lines_ns = api.nvim_create_namespace('sightline.lines')
local lens_ns = api.nvim_create_namespace('sightline.lenses')
M.namespaces = { lines = lines_ns, lenses = lens_ns }

---@class sightline.Mark
---@field line string text of the line that it was drawn for, without white space around it
---@field text string
---@field hl string
---@field pad? integer indentation of a lens

---@class sightline.Document
---@field client integer
---@field lines table<integer, sightline.Mark> by extmark
---@field lenses table<integer, sightline.Mark> by extmark
---@field asked integer requests that were sent; only the latest one's answer is drawn
---@field low? integer first and last row that may have changed since the marks were looked at
---@field high? integer
---@field hidden? boolean asked for, while in no window
---@field timer? uv.uv_timer_t
---@field result? sightline.LinesResult the latest that was drawn

local documents = {} ---@type table<integer, sightline.Document>
local off = false -- by hand, for all

local function trimmed(line)
  return vim.trim(line or '')
end

-- Marks.

--- Takes marks away whose line is another than the one they were drawn for.
local function verify(buf, d)
  local low, high = d.low, d.high
  if not low then
    return
  end
  d.low, d.high = nil, nil
  local last = api.nvim_buf_line_count(buf) - 1
  low, high = math.max(0, math.min(low, last)), math.max(0, math.min(high, last))
  for ns, marks in pairs({ [lines_ns] = d.lines, [lens_ns] = d.lenses }) do
    local function drop(id)
      api.nvim_buf_del_extmark(buf, ns, id)
      marks[id] = nil
    end
    local on = {} ---@type table<integer, integer> the mark of each row
    for _, m in ipairs(api.nvim_buf_get_extmarks(buf, ns, { low, 0 }, { high, -1 }, {})) do
      local id, row = m[1], m[2]
      local is = marks[id]
      if not is or trimmed(api.nvim_buf_get_lines(buf, row, row + 1, false)[1]) ~= is.line then
        drop(id)
      elseif on[row] then -- equal lines, of which one went: whose number it is nobody knows
        drop(id)
        if marks[on[row]] then
          drop(on[row])
        end
      else
        on[row] = id
      end
    end
  end
end

--- Makes the marks of a namespace those that are wanted, touching none that stays as it is.
---@param wanted table<integer, sightline.Mark> by row
---@param options fun(m: sightline.Mark, row: integer): table
local function place(buf, ns, marks, wanted, options)
  for _, m in ipairs(api.nvim_buf_get_extmarks(buf, ns, 0, -1, {})) do
    local id, row = m[1], m[2]
    local is, want = marks[id], wanted[row]
    if is and want and is.text == want.text and is.hl == want.hl and is.pad == want.pad then
      is.line = want.line
      wanted[row] = nil
    else
      api.nvim_buf_del_extmark(buf, ns, id)
      marks[id] = nil
    end
  end
  for row, want in pairs(wanted) do
    marks[api.nvim_buf_set_extmark(buf, ns, row, 0, options(want, row))] = want
  end
end

local function clear(buf, d)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_clear_namespace(buf, lines_ns, 0, -1)
    api.nvim_buf_clear_namespace(buf, lens_ns, 0, -1)
  end
  d.lines, d.lenses, d.result = {}, {}, nil
end

-- Drawing.

---@param result sightline.LinesResult
local function draw_lines(buf, d, result)
  d.result = result
  local opts = require('sightline.config').get().lines
  local wanted, text = {}, api.nvim_buf_get_lines(buf, 0, -1, false) -- at once: a call per line takes longer
  for _, cost in ipairs(opts.enable and not off and result.lines or {}) do
    local line = text[cost.line + 1]
    if cost.text ~= '' and line then
      wanted[cost.line] = { line = trimmed(line), text = cost.text, hl = highlight.heat(cost.heat) }
    end
  end
  local position = opts.position
  if position == 'eol_right_align' and vim.fn.has('nvim-0.11') == 0 then
    position = 'right_align'
  end
  place(buf, lines_ns, d.lines, wanted, function(m)
    return {
      virt_text = { { position == 'eol' and '  ' or ' ', '' }, { m.text, m.hl } },
      virt_text_pos = position,
      hl_mode = 'combine',
      strict = false,
    }
  end)
  require('sightline.status').numbers(buf, result)
end

--- Whether Neovim draws our lenses by itself, because a person told it to.
local function native(buf, client_id)
  local lens = vim.lsp.codelens
  if lens.is_enabled then -- 0.12
    return lens.is_enabled({ bufnr = buf, client_id = client_id })
  end
  local ns = api.nvim_get_namespaces()['vim_lsp_codelens:' .. client_id]
  return ns ~= nil and #api.nvim_buf_get_extmarks(buf, ns, 0, -1, { limit = 1 }) > 0
end

---@param lenses lsp.CodeLens[]
local function draw_lenses(buf, d, lenses)
  local opts = require('sightline.config').get().lenses
  if vim.fn.has('nvim-0.12') == 0 and vim.lsp.codelens.save then
    vim.lsp.codelens.save(lenses, buf, d.client) -- what vim.lsp.codelens.run() looks at
  end
  local titles, count = {}, api.nvim_buf_line_count(buf)
  if opts.enable and not off and not native(buf, d.client) then
    for _, lens in ipairs(lenses) do
      local row = lens.range.start.line
      if row < count and lens.command then
        titles[row] = titles[row] or {}
        table.insert(titles[row], (lens.command.title:gsub('%s+', ' ')))
      end
    end
  end
  local wanted = {}
  for row, list in pairs(titles) do
    local line = api.nvim_buf_get_lines(buf, row, row + 1, false)[1]
    wanted[row] = {
      line = trimmed(line),
      text = table.concat(list, ' | '),
      hl = 'SightlineLens',
      pad = vim.fn.strdisplaywidth(line:match('^%s*')),
    }
  end
  place(buf, lens_ns, d.lenses, wanted, function(m, row)
    if opts.position == 'eol' or row == 0 then -- nothing above the first line would be seen
      return { virt_text = { { '  ' }, { m.text, m.hl } }, hl_mode = 'combine', strict = false }
    end
    return {
      virt_lines = { { { (' '):rep(m.pad), '' }, { m.text, m.hl } } },
      virt_lines_above = true,
      strict = false,
    }
  end)
end

-- Asking.

local function params(buf)
  return { textDocument = { uri = vim.uri_from_bufnr(buf) } }
end

local function in_window(buf)
  return vim.fn.bufwinid(buf) ~= -1 or #vim.fn.win_findbuf(buf) > 0
end

--- Asks for a document's numbers and lenses and draws them.
---@param buf integer
function M.ask(buf)
  local d = documents[buf]
  local client = d and vim.lsp.get_client_by_id(d.client)
  if not client or not client.initialized or server.stopped(client) or not api.nvim_buf_is_loaded(buf) then
    return
  end
  d.asked, d.hidden = d.asked + 1, nil
  local this, tick = d.asked, api.nvim_buf_get_changedtick(buf)
  local function answer(draw)
    return function(err, result)
      if documents[buf] ~= d or d.asked ~= this or not api.nvim_buf_is_loaded(buf) then
        return
      end
      if err or not result or result == vim.NIL then
        return -- an edit came between, or there is nothing to say; what is drawn stays true
      end
      if api.nvim_buf_get_changedtick(buf) ~= tick then
        M.later(buf)
        return
      end
      verify(buf, d)
      draw(buf, d, result)
    end
  end
  -- Edits that are not sent yet are sent before a request.
  server.call(client, 'request', protocol.methods.lines, params(buf), answer(draw_lines), buf)
  local lenses = require('sightline.config').get().lenses
  if lenses.enable then
    server.call(client, 'request', 'textDocument/codeLens', params(buf), answer(draw_lenses), buf)
  end
end

local function stop_timer(d)
  if d.timer then
    d.timer:stop()
    d.timer:close()
    d.timer = nil
  end
end

--- Asks after a pause: at each edit the pause begins anew.
---@param buf integer
---@param delay? integer ms
function M.later(buf, delay)
  local d = documents[buf]
  if not d then
    return
  end
  stop_timer(d)
  d.timer = vim.defer_fn(function()
    d.timer = nil
    if documents[buf] == d then
      M.ask(buf)
    end
  end, delay or require('sightline.config').get().lines.delay)
end

--- The server's numbers are others now: asks for those in windows, and for the others when they are
--- shown.
---@param client_id? integer
function M.changed(client_id)
  for buf, d in pairs(documents) do
    if not client_id or d.client == client_id then
      if in_window(buf) then
        M.ask(buf)
      else
        d.hidden = true
      end
    end
  end
end

-- Documents.

---@param buf integer
---@param client_id integer
function M.attach(buf, client_id)
  highlight.define()
  local d = documents[buf]
  if d then
    d.client = client_id
    M.ask(buf)
    return
  end
  d = { client = client_id, lines = {}, lenses = {}, asked = 0 }
  documents[buf] = d
  api.nvim_buf_attach(buf, false, {
    on_lines = function(_, b, _, first, last, new)
      if documents[b] ~= d then
        return true
      end
      -- A deletion moves marks to the line after it, which is why that one is looked at too.
      d.low = math.min(d.low or first, first)
      d.high = math.max((d.high or 0) + math.max(new - last, 0), new)
      M.later(b)
    end,
    on_reload = function(_, b) -- the text was read again, and no mark outlived that
      if documents[b] == d then
        clear(b, d)
        M.later(b)
      end
    end,
    on_detach = function(_, b)
      if documents[b] == d then
        M.forget(b)
      end
    end,
  })
  M.ask(buf)
end

--- Takes everything off a document and looks after it no more.
---@param buf integer
function M.forget(buf)
  local d = documents[buf]
  if d then
    documents[buf] = nil
    stop_timer(d)
    clear(buf, d)
    require('sightline.status').numbers(buf, nil)
  end
end

--- The documents of a client.
---@param client_id integer
---@return integer[]
function M.documents(client_id)
  local list = {}
  for buf, d in pairs(documents) do
    if d.client == client_id then
      list[#list + 1] = buf
    end
  end
  table.sort(list)
  return list
end

--- Shows or hides what is drawn, in all documents.
---@return boolean shown
function M.toggle()
  off = not off
  M.changed()
  return not off
end

-- An edit is looked at before it is drawn: no number is seen on a line that it is not of.
api.nvim_set_decoration_provider(api.nvim_create_namespace('sightline.verify'), {
  on_win = function(_, _, buf)
    local d = documents[buf]
    if d then
      verify(buf, d)
      if d.hidden then
        d.hidden = nil
        vim.schedule(function()
          M.ask(buf)
        end)
      end
    end
    return false
  end,
})

return M
