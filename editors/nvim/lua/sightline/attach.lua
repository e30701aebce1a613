--- What happens when the server attaches to a buffer, tells something, or goes.
local layer = require('sightline.layer')
local status = require('sightline.status')
local protocol = require('sightline.protocol')

local M = {}

---@param buf integer
---@param client vim.lsp.Client
function M.attach(buf, client)
  require('sightline.server').serves(buf)
  layer.attach(buf, client.id)
end

--- Takes a client's numbers away.
---@param client_id integer
function M.forget(client_id)
  for _, buf in ipairs(layer.documents(client_id)) do
    layer.forget(buf)
  end
end

local function default(method)
  return function(...)
    local handler = vim.lsp.handlers[method]
    if handler then
      return handler(...)
    end
    return vim.NIL
  end
end

local levels = { vim.log.levels.ERROR, vim.log.levels.WARN, vim.log.levels.INFO, vim.log.levels.INFO, vim.log.levels.DEBUG }

M.handlers = {
  [protocol.methods.changed] = function(_, params, ctx)
    local before = status.last
    status.update(params)
    -- While a recording goes on this comes for its elapsed time alone, too; live numbers are worth a
    -- request each time.
    if not before or before.samples ~= params.samples or not params.recording then
      layer.changed(ctx.client_id)
    end
  end,
  ['workspace/codeLens/refresh'] = function(err, params, ctx, ...)
    layer.changed(ctx.client_id)
    return default('workspace/codeLens/refresh')(err, params, ctx, ...)
  end,
  ['workspace/inlayHint/refresh'] = function(err, params, ctx, ...)
    if vim.fn.has('nvim-0.11') == 1 then
      return default('workspace/inlayHint/refresh')(err, params, ctx, ...)
    end
    -- 0.10 keeps the new hints but draws a line again only after an edit. Off and on begins anew.
    for _, buf in ipairs(layer.documents(ctx.client_id)) do
      if vim.lsp.inlay_hint.is_enabled({ bufnr = buf }) then
        vim.lsp.inlay_hint.enable(false, { bufnr = buf })
        vim.lsp.inlay_hint.enable(true, { bufnr = buf })
      end
    end
    return vim.NIL
  end,
  ['window/showMessage'] = function(_, params)
    require('sightline.say').now(params.message, levels[params.type] or vim.log.levels.INFO)
    return vim.NIL
  end,
}

return M
