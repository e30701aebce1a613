--- What can be recorded here, in a window.
local protocol = require('sightline.protocol')
local server = require('sightline.server')

local M = {}

--- Opens a window with lines that only want to be read; q closes it.
---@param name string
---@param lines string[]
function M.window(name, lines)
  local old = vim.fn.bufnr('^' .. name .. '$')
  if old ~= -1 then
    vim.api.nvim_buf_delete(old, { force = true })
  end
  vim.cmd('botright new')
  local buf = vim.api.nvim_get_current_buf()
  vim.bo[buf].buftype, vim.bo[buf].bufhidden, vim.bo[buf].swapfile = 'nofile', 'wipe', false
  vim.api.nvim_buf_set_name(buf, name)
  vim.api.nvim_buf_set_lines(buf, 0, -1, false, lines)
  vim.bo[buf].modifiable = false
  local o = vim.wo
  o.wrap, o.linebreak, o.breakindent, o.breakindentopt = true, true, true, 'shift:5' -- nothing is cut in a narrow window
  o.number, o.relativenumber = false, false
  vim.api.nvim_win_set_height(0, math.min(#lines + 1, math.floor(vim.o.lines * 0.6)))
  vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = buf, nowait = true, desc = 'close' })
end

function M.open()
  server.request(protocol.methods.doctor, nil, function(report)
    local lines = vim.split(vim.trim(report.text), '\n')
    local remedies = {}
    for _, e in ipairs(report.engines or {}) do
      if not e.works and e.remedy ~= '' and not vim.tbl_contains(remedies, e.remedy) then
        remedies[#remedies + 1] = e.remedy
      end
    end
    if #remedies > 0 and not report.text:find(remedies[1], 1, true) then
      vim.list_extend(lines, { '', 'What helps:' })
      for _, r in ipairs(remedies) do
        vim.list_extend(lines, vim.split('  ' .. r, '\n'))
      end
    end
    M.window('sightline://doctor', lines)
  end)
end

return M
