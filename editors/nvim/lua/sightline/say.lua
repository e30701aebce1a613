--- What the plugin says to a person: one place, so that it is one voice.
local M = {}

M.count = 0 -- messages so far

--- Whether vim.notify() is Neovim's own, which writes into the message line.
local function plain()
  return debug.getinfo(vim.notify, 'S').source:find('vim/_', 1, true) ~= nil
end

--- A line cut to what the message line takes: one cell more and Neovim waits for a key.
---@param text string
---@return string
function M.fit(text)
  local room = math.max(20, vim.v.echospace - 1)
  if vim.fn.strdisplaywidth(text) <= room then
    return text
  end
  text = vim.fn.strcharpart(text, 0, room - 1)
  while vim.fn.strdisplaywidth(text) > room - 1 do
    text = vim.fn.strcharpart(text, 0, vim.fn.strchars(text) - 1)
  end
  return text .. '…'
end

--- Says a text now. Errors and what has several lines are worth a key, other texts are not.
---@param text string
---@param level integer
function M.now(text, level)
  M.count = M.count + 1
  if level < vim.log.levels.WARN and not text:find('\n') and plain() then
    text = M.fit(text)
  end
  vim.notify(text, level, { title = 'Sightline' })
end

---@param text string
---@param level integer
local function say(text, level)
  vim.schedule(function()
    M.now(text, level)
  end)
end

function M.info(text)
  say(text, vim.log.levels.INFO)
end

function M.warn(text)
  say(text, vim.log.levels.WARN)
end

function M.error(text)
  say(text, vim.log.levels.ERROR)
end

local said = {} ---@type table<string, true>

--- Warns of one thing once.
---@param key string
---@param text string
function M.once(key, text)
  if not said[key] then
    said[key] = true
    M.warn(text)
  end
end

--- Lets a thing be warned of again.
---@param key string
function M.again(key)
  said[key] = nil
end

return M
