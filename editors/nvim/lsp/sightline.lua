-- Read by vim.lsp.enable('sightline') in Neovim 0.11 and later.
return require('sightline.server').config()
