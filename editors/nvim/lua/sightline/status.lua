--- What the server is doing, for a status line and the message line.
local M = {}

---@type sightline.StatusResult?
M.last = nil
local notes = {} ---@type table<integer, string> by buffer: what is to say of its numbers

local function redraw()
  vim.schedule(function()
    vim.api.nvim_exec_autocmds('User', { pattern = 'SightlineStatus', modeline = false })
    pcall(vim.cmd.redrawstatus, { bang = true })
  end)
end

--- See sightline.statusline().
---@param buf? integer
function M.line(buf)
  if M.last and (M.last.recording or (M.last.phase or '') ~= '') then
    local text = (M.last.text or '') ~= '' and M.last.text or M.last.phase or ''
    return ('● ' .. text):gsub('%%', '%%%%')
  end
  if not buf or buf == 0 then
    buf = vim.api.nvim_get_current_buf()
  end
  return ((notes[buf] or ''):gsub('%%', '%%%%'))
end

---@param buf integer
---@param result sightline.LinesResult?
function M.numbers(buf, result)
  local note = result and (result.stale or 0) > 0 and result.note or nil
  if notes[buf] ~= note then
    notes[buf] = note
    redraw()
  end
end

---@param status sightline.StatusResult
function M.update(status)
  M.last = status
  redraw()
end

--- The server is gone.
function M.reset()
  M.last = nil
  M.progress_end(nil)
  redraw()
end

-- Progress in the message line, for those who have nothing that shows it.

local works = {} ---@type table<string|integer, { title: string, count: integer }>
local group = vim.api.nvim_create_augroup('sightline.progress', {})

--- Whether something else shows the progress of language servers.
local function elsewhere()
  for _, a in ipairs(vim.api.nvim_get_autocmds({ event = 'LspProgress' })) do
    if a.group ~= group then
      return true
    end
  end
  return false
end

local function wanted()
  local progress = require('sightline.config').get().progress
  if progress == 'auto' then
    return not elsewhere()
  end
  return progress
end

local say = require('sightline.say')

---@param text string
local function show(work, text)
  if not wanted() or vim.in_fast_event() or text == '' and work.count ~= say.count then
    return -- the last: what was said since is not to be wiped away
  end
  work.count = say.count
  vim.api.nvim_echo({ { say.fit(text) } }, false, {})
end

local function words(work, message)
  return message and message ~= '' and (work.title .. ': ' .. message) or work.title
end

--- Ends what is shown of one work, or of all.
function M.progress_end(token)
  for t, work in pairs(works) do
    if token == nil or t == token then
      works[t] = nil
      show(work, '') -- how it ended the server says in a message of its own
    end
  end
end

function M.on_progress(client_id, token, value)
  local client = vim.lsp.get_client_by_id(client_id)
  if not client or client.name ~= 'sightline' then
    return
  end
  if value.kind == 'begin' then
    works[token] = { title = value.title or 'Sightline', count = say.count }
    show(works[token], words(works[token], value.message))
  elseif value.kind == 'report' and works[token] then
    show(works[token], words(works[token], value.message))
  elseif value.kind == 'end' then
    M.progress_end(token)
  end
end

vim.api.nvim_create_autocmd('LspProgress', {
  group = group,
  callback = function(ev)
    local p = ev.data.params or ev.data.result
    if p and p.value then
      M.on_progress(ev.data.client_id, p.token, p.value)
    end
  end,
})

return M
