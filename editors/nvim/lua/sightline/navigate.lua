--- Going to what is hot: lines, functions, callers and callees; and what the server says of a line.
local pick = require('sightline.pick')
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local M = {}

local function document()
  return { uri = vim.uri_from_bufnr(0) }
end

local function hot_line(command)
  local buf = vim.api.nvim_get_current_buf()
  local line = vim.api.nvim_win_get_cursor(0)[1] - 1
  vim.cmd("normal! m'")
  server.execute(command, { uri = document().uri, line = line }, function(to)
    if to and not to.shown then -- the server could not have it shown
      pick.go({ uri = to.uri, line = to.range.start.line })
    elseif vim.api.nvim_get_current_buf() == buf then
      vim.cmd('normal! zv') -- a line in a fold is no answer
    end
  end)
end

function M.next()
  hot_line('sightline.nextHotLine')
end

function M.prev()
  hot_line('sightline.previousHotLine')
end

---@param spots sightline.HotSpot[]
local function quickfix(spots, title)
  local items = {}
  for i, text in ipairs(pick.align(vim.tbl_map(function(s)
    return { s.text, s.label }
  end, spots), { true, false })) do
    local at = spots[i].location
    items[i] = {
      filename = at and vim.uri_to_fname(at.uri) or nil,
      lnum = at and at.line + 1 or 0,
      col = at and 1 or 0,
      text = at and text or (text .. '  ' .. spots[i].detail),
      valid = at and 1 or 0,
    }
  end
  vim.fn.setqflist({}, ' ', { title = title, items = items, context = { sightline = true } })
  vim.cmd('botright copen')
end

--- The costliest lines (or functions) in the quickfix list, or in a picker.
---@param what? 'lines'|'functions'
---@param choose? boolean in a picker
---@param all? boolean also outside of the workspace
function M.hot(what, choose, all)
  what = what or 'lines'
  server.request(protocol.methods.hottest, { what = what, all = all or nil }, function(spots)
    local none = ('Nothing is recorded yet that touches %s of this project: profile a test first.'):format(what)
    spots = spots or {}
    if #spots == 0 then
      say.info(none)
    elseif choose then
      pick.select(spots, {
        prompt = 'Hottest ' .. what,
        none = none,
        columns = function(s)
          return { s.text, s.label, s.detail }
        end,
        right = { true },
        location = function(s)
          return s.location
        end,
      }, function(s)
        if not pick.go(s.location) then
          say.warn(s.label .. ' has no source here.')
        end
      end)
    else
      quickfix(spots, 'Sightline: hottest ' .. what)
    end
  end)
end

---@param side 'callers'|'callees'
local function neighbors(side)
  local line = vim.api.nvim_win_get_cursor(0)[1] - 1
  server.request(protocol.methods.neighbors, { textDocument = document(), line = line }, function(n)
    if not n or n.name == '' then
      say.info('No function with a cost is at the cursor.')
      return
    end
    pick.select(n[side] or {}, {
      prompt = ('%s of %s (%s)'):format(side == 'callers' and 'Callers' or 'Callees', n.label, n.text),
      none = side == 'callers' and (n.label .. ' was called by nothing that was seen.')
        or (n.label .. ' called nothing that was seen.'),
      columns = function(row)
        return { row.text, row.label }
      end,
      right = { true },
      location = function(row)
        return row.location
      end,
    }, function(row)
      if not pick.go(row.location) then
        say.warn(row.name .. ' has no source here.')
      end
    end)
  end)
end

function M.callers()
  neighbors('callers')
end

function M.callees()
  neighbors('callees')
end

--- What the server says of the line at the cursor, and it alone.
function M.hover()
  local pos = vim.api.nvim_win_get_cursor(0)
  local line = vim.api.nvim_get_current_line()
  server.with(function(client)
    local character = vim.str_utfindex(line, pos[2]) -- UTF-32
    if client.offset_encoding == 'utf-8' then
      character = pos[2]
    elseif client.offset_encoding == 'utf-16' then
      local _, utf16 = vim.str_utfindex(line, pos[2])
      character = utf16 or vim.str_utfindex(line, 'utf-16', pos[2])
    end
    local params = { textDocument = document(), position = { line = pos[1] - 1, character = character } }
    server.call(client, 'request', 'textDocument/hover', params, function(err, result)
      if err then
        say.error(server.words(err, 'textDocument/hover'))
        return
      end
      local lines = result and result ~= vim.NIL and vim.lsp.util.convert_input_to_markdown_lines(result.contents) or {}
      if vim.tbl_isempty(lines) or table.concat(lines) == '' then
        say.info('This line has no cost.')
        return
      end
      vim.lsp.util.open_floating_preview(lines, 'markdown', { focus_id = 'sightline-hover', border = 'rounded' })
    end)
  end)
end

return M
