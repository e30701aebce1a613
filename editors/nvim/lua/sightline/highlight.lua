--- Highlight groups. All are links to standard groups and can be set by a color scheme or a person.
local M = {}

M.steps = 5

local links = {
  -- What a line costs, from little to the most of its file.
  SightlineHeat1 = 'Comment',
  SightlineHeat2 = 'DiagnosticHint',
  SightlineHeat3 = 'DiagnosticInfo',
  SightlineHeat4 = 'DiagnosticWarn',
  SightlineHeat5 = 'DiagnosticError',
  SightlineLens = 'Comment', -- LspCodeLens is often hard to read
  -- The call tree.
  SightlineTitle = 'Title',
  SightlineHeader = 'Comment',
  SightlineGuide = 'NonText',
  SightlineName = 'Normal',
  SightlinePlace = 'Comment',
  SightlineMore = 'Special',
  SightlineGrew = 'DiagnosticError',
  SightlineShrank = 'DiagnosticOk',
  -- Kinds of memory.
  SightlineImage = 'Constant',
  SightlineMappedFile = 'Type',
  SightlineShareable = 'Function',
  SightlineHeap = 'DiagnosticWarn',
  SightlineManagedHeap = 'DiagnosticError',
  SightlineRuntimeMetadata = 'Special',
  SightlineStack = 'String',
  SightlinePrivateData = 'Comment',
}

local defined = false

--- Defines the groups that nobody has defined.
function M.define()
  if defined then
    return
  end
  defined = true
  local function link()
    for name, to in pairs(links) do
      vim.api.nvim_set_hl(0, name, { link = to, default = true })
    end
  end
  link()
  vim.api.nvim_create_autocmd('ColorScheme', { -- which clears them
    group = vim.api.nvim_create_augroup('sightline.highlight', {}),
    callback = link,
  })
end

--- The group of a share of the hottest, 0 to 1.
---@param heat number
---@return string
function M.heat(heat)
  return 'SightlineHeat' .. math.max(1, math.min(M.steps, math.floor(heat * M.steps) + 1))
end

return M
