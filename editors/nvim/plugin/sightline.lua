-- Loaded when Neovim starts. Everything else is read when it is needed first.
if vim.g.loaded_sightline then
  return
end
vim.g.loaded_sightline = true

if vim.fn.has('nvim-0.10') == 0 then
  vim.notify('Sightline needs Neovim 0.10 or later.', vim.log.levels.ERROR)
  return
end

vim.api.nvim_create_user_command('Sightline', function(c)
  require('sightline.command').run(c)
end, {
  nargs = '*',
  bang = true,
  bar = false, -- a recorded command may have a bar
  desc = 'See what every line costs',
  complete = function(lead, line, pos)
    return require('sightline.command').complete(lead, line, pos)
  end,
})

local group = vim.api.nvim_create_augroup('sightline', {})
vim.api.nvim_create_autocmd('LspAttach', {
  group = group,
  callback = function(ev)
    local client = vim.lsp.get_client_by_id(ev.data.client_id)
    if client and client.name == 'sightline' then
      require('sightline.attach').attach(ev.buf, client)
    end
  end,
})

-- Files of launch targets have no file type of their own.
vim.api.nvim_create_autocmd({ 'BufReadPost', 'BufNewFile' }, {
  group = group,
  pattern = '.sightline.json',
  callback = function(ev)
    require('sightline.server').start(ev.buf)
  end,
})

-- No keys are mapped; these can be: vim.keymap.set('n', '<leader>pp', '<Plug>(sightline-profile)')
for _, name in ipairs({
'profile', 'target', 'stop', 'discard', 'attach', 'captures', 'clear', 'metric', 'hot', 'next', 'prev', 'callers', 'callees',
  'tree', 'flame', 'diff', 'doctor', 'hover', 'toggle', 'lens', 'inspect',
}) do
  vim.keymap.set('n', ('<Plug>(sightline-%s)'):format(name), ('<Cmd>Sightline %s<CR>'):format(name), {
    desc = 'Sightline: ' .. name,
  })
end
