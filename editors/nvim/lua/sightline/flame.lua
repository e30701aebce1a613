--- A flame graph as a picture, shown by whatever the desktop shows SVG with.
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local M = {}

---@class sightline.FlameRequest
---@field source? sightline.SourceRef
---@field before? sightline.SourceRef
---@field focus? string

--- Writes the flame graph of a capture to a file and opens it.
---@param what? sightline.FlameRequest
function M.open(what)
  what = what or {}
  local params = vim.tbl_extend('force', what.source or {}, {
    filter = vim.empty_dict(), before = what.before, focus = what.focus, svg = true,
  })
  server.request(protocol.methods.flame, params, function(flame)
    local svg = flame and flame.svg
    if not svg or svg == '' then
      say.info('There is nothing to draw: the capture has no samples.')
      return
    end
    local path = vim.fn.tempname() .. '.svg'
    local file, why = io.open(path, 'w')
    if not file then
      say.error(('The flame graph cannot be written: %s'):format(why))
      return
    end
    file:write(svg)
    file:close()
    local text = ('Flame graph of %s: %s'):format(flame.title, path)
    local opened, job, err = pcall(vim.ui.open, path)
    if not opened or not job then
      say.info(('%s (it could not be opened: %s)'):format(text, tostring(err or job)))
      return
    end
    say.info(text)
  end)
end

return M
