// Package nvim is the plugin for Neovim. What Neovim reads is Lua, in this folder's lsp, plugin, lua and
// doc; there is no Go in it but the test that runs the Lua tests in real Neovims. It knows the server
// only by the protocol.
package nvim
