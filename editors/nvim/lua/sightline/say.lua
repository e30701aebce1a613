--- What the plugin says to a person: one place, so that it is one voice.
local M = {}

---@param text string
---@param level integer
local function say(text, level)
  vim.schedule(function()
    vim.notify(text, level, { title = 'Sightline' })
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
