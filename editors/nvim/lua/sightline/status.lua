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

local works = {} ---@type table<string|integer, { title: string, id: any }>
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

local native = vim.fn.has('nvim-0.12') == 1

local function show(work, message, state)
  if not wanted() or vim.in_fast_event() then
    return
  end
  if native then
    local ok, id = pcall(vim.api.nvim_echo, { { message } }, false, {
      kind = 'progress', source = 'sightline', title = work.title, status = state, id = work.id,
    })
    if ok then
      work.id = id
      return
    end
  end
  local text = state ~= 'running' and '' or message == '' and work.title or work.title .. ': ' .. message
  local room = vim.o.columns - 12 -- one cell more and Neovim waits for a key
  if vim.fn.strdisplaywidth(text) > room then
    text = vim.fn.strcharpart(text, 0, room - 1) .. '…'
  end
  vim.api.nvim_echo({ { text } }, false, {})
end

--- Ends what is shown of one work, or of all.
function M.progress_end(token, message)
  for t, work in pairs(works) do
    if token == nil or t == token then
      works[t] = nil
      show(work, message or '', 'success')
    end
  end
end

function M.on_progress(client_id, token, value)
  local client = vim.lsp.get_client_by_id(client_id)
  if not client or client.name ~= 'sightline' then
    return
  end
  if value.kind == 'begin' then
    works[token] = { title = value.title or 'Sightline' }
    show(works[token], value.message or '', 'running')
  elseif value.kind == 'report' and works[token] then
    show(works[token], value.message or '', 'running')
  elseif value.kind == 'end' then
    M.progress_end(token, value.message)
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
