--- Sightline: see what every line costs. This is what a configuration may call; see :help sightline.
local M = {}

local enabled = false

--- Has the server serve the buffers of its file types, those of now and those to come.
function M.enable()
  if enabled then
    return
  end
  enabled = true
  local server, types = require('sightline.server'), require('sightline.config').get().filetypes
  if vim.lsp.enable then
    vim.lsp.enable('sightline')
  else
    vim.api.nvim_create_autocmd('FileType', {
      group = vim.api.nvim_create_augroup('sightline.start', {}),
      pattern = types,
      callback = function(ev)
        server.start(ev.buf)
      end,
    })
  end
  vim.schedule(function() -- files that were opened before
    for _, buf in ipairs(vim.api.nvim_list_bufs()) do
      if vim.api.nvim_buf_is_loaded(buf) and vim.tbl_contains(types, vim.bo[buf].filetype) then
        server.start(buf)
      end
    end
  end)
end

--- Takes options and starts. Without options everything has a default. In Neovim 0.11 and later
--- vim.lsp.enable('sightline') starts as well, and the first :Sightline does in any.
---@param opts? table see |sightline-options|
function M.setup(opts)
  require('sightline.config').set(opts)
  M.enable()
end

--- What goes on, for a status line: "● 3.2 s · 1.2k samples" while recording, else what the server says
--- of a buffer whose lines were changed since they were measured, else "". Costs no request.
---@param buf? integer
---@return string
function M.statusline(buf)
  local status = package.loaded['sightline.status'] -- nothing goes on before it is read
  return status and status.line(buf) or ''
end

return M
