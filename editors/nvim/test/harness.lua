--- What the tests are written with. A test file is run by a Neovim of its own that draws without a
--- terminal, on a fresh copy of the example; see nvim_test.go for the environment.
local M = {}

local api = vim.api
local passed, failed = 0, 0

--- Everything that was said by vim.notify().
M.said = {} ---@type { text: string, level: integer }[]
vim.notify = function(text, level)
  M.said[#M.said + 1] = { text = text, level = level or vim.log.levels.INFO }
end

function M.test(name, f)
  M.said = {}
  local begun = vim.uv.now()
  local ok, err = xpcall(f, debug.traceback)
  vim.uv.update_time()
  if ok then
    passed = passed + 1
  else
    failed = failed + 1
    err = tostring(err) .. '\nsaid: ' .. vim.inspect(M.said)
  end
  io.stdout:write(('%s %s (%d ms)%s\n'):format(ok and 'ok  ' or 'FAIL', name, vim.uv.now() - begun, ok and '' or '\n' .. err))
end

--- Waits until f answers something; what it is is named where it never does. A machine that does much
--- else may take a minute to build a test.
function M.wait(what, f, ms)
  local answer
  local ok = vim.wait(ms or 90000, function()
    answer = f()
    return answer
  end, 10)
  if not ok then
    error('timed out: ' .. what .. '\n' .. M.screen(), 2)
  end
  return answer
end

function M.same(want, got, what)
  if not vim.deep_equal(want, got) then
    error((what and what .. ': ' or '') .. 'want ' .. vim.inspect(want) .. '\ngot ' .. vim.inspect(got), 2)
  end
end

--- A text that was said and contains another.
function M.heard(part)
  for _, s in ipairs(M.said) do
    if s.text:find(part, 1, true) then
      return s
    end
  end
end

--- The screen as it is drawn, a string per row.
function M.rows()
  vim.cmd.redraw({ bang = true })
  local rows = {}
  for r = 1, vim.o.lines do
    local cells = {}
    for c = 1, vim.o.columns do
      cells[c] = vim.fn.screenstring(r, c)
    end
    rows[r] = (table.concat(cells):gsub('%s+$', ''))
  end
  return rows
end

function M.screen()
  return table.concat(M.rows(), '\n')
end

--- The row of the screen that contains a text.
function M.row(text)
  for _, row in ipairs(M.rows()) do
    if row:find(text, 1, true) then
      return row
    end
  end
end

--- Cost in words: "66.7% · 720 ms".
M.cost = '%d+%.%d%% · [%d.]+ %a+'

--- The number at the end of a line of the buffer, as it is drawn; nil where there is none.
function M.number(lnum, buf)
  vim.cmd.redraw()
  local ns = require('sightline.layer').namespaces.lines
  for _, m in ipairs(api.nvim_buf_get_extmarks(buf or 0, ns, { lnum - 1, 0 }, { lnum - 1, -1 }, { details = true })) do
    return m[4].virt_text[2][1], m[4].virt_text[2][2]
  end
end

--- All numbers of a buffer by the text of their line.
function M.numbers(buf)
  vim.cmd.redraw()
  buf = buf or api.nvim_get_current_buf()
  local ns, by = require('sightline.layer').namespaces.lines, {}
  for _, m in ipairs(api.nvim_buf_get_extmarks(buf, ns, 0, -1, { details = true })) do
    by[vim.trim(api.nvim_buf_get_lines(buf, m[2], m[2] + 1, false)[1])] = m[4].virt_text[2][1]
  end
  return by
end

--- Texts of the lenses of a buffer by the text of their line.
function M.lenses(buf)
  vim.cmd.redraw()
  buf = buf or api.nvim_get_current_buf()
  local ns, by = require('sightline.layer').namespaces.lenses, {}
  for _, m in ipairs(api.nvim_buf_get_extmarks(buf, ns, 0, -1, { details = true })) do
    local chunks = m[4].virt_lines and m[4].virt_lines[1] or m[4].virt_text
    by[vim.trim(api.nvim_buf_get_lines(buf, m[2], m[2] + 1, false)[1])] = chunks[2][1]
  end
  return by
end

--- The number of the line that contains a text.
function M.lnum(text, buf)
  for i, line in ipairs(api.nvim_buf_get_lines(buf or 0, 0, -1, false)) do
    if line:find(text, 1, true) then
      return i
    end
  end
  error('no line has ' .. text, 2)
end

--- Types keys as a person does.
function M.type(keys)
  api.nvim_feedkeys(api.nvim_replace_termcodes(keys, true, false, true), 'xt', false)
end

M.example = vim.env.SIGHTLINE_EXAMPLE

--- Opens a file of the example and waits until the server attached.
function M.edit(name)
  vim.cmd.edit(vim.fs.joinpath(M.example, name))
  local buf = api.nvim_get_current_buf()
  M.wait('the server attaches to ' .. name, function()
    local c = vim.lsp.get_clients({ bufnr = buf, name = 'sightline' })[1]
    return c and c.initialized
  end)
  return buf
end

function M.read(name)
  local f = assert(io.open(vim.fs.joinpath(M.example, name), 'rb'))
  local text = f:read('*a')
  f:close()
  return text
end

function M.write(name, text)
  local f = assert(io.open(vim.fs.joinpath(M.example, name), 'wb'))
  f:write(text)
  f:close()
end

--- Has the next choice fall on the first item whose text contains one.
function M.choose(part)
  local offered = {}
  vim.ui.select = function(items, opts, done)
    for _, item in ipairs(items) do
      local text = (opts.format_item or tostring)(item)
      offered[#offered + 1] = text
      if part and text:find(part, 1, true) then
        part = nil
        done(item)
        return
      end
    end
    done(nil)
  end
  return offered
end

local start = vim.lsp.rpc.start

--- From now on a server that is started is one that answers by these functions: method → function of
--- the parameters that answers a result, or nil and an error. Answers the list of methods that were asked.
---@param methods table<string, fun(params: any): any, any>
---@param version? string
---@param has? string[] own methods that it says it has; default: all
function M.fake(methods, version, has)
  local protocol = require('sightline.protocol')
  local asked = {}
  vim.lsp.rpc.start = function(_, dispatchers)
    local closing, id = false, 0
    local function close()
      closing = true
      vim.schedule(function()
        dispatchers.on_exit(0, 0)
      end)
    end
    return {
      request = function(method, params, callback)
        id = id + 1
        asked[#asked + 1] = method
        vim.schedule(function()
          if method == 'initialize' then
            callback(nil, {
              serverInfo = { name = 'sightline', version = version or 'devel' },
              capabilities = {
                textDocumentSync = { openClose = true, change = 2 },
                experimental = { sightline = { methods = has or vim.tbl_values(protocol.methods) } },
              },
            })
          elseif methods[method] then
            local result, err = methods[method](params)
            callback(err, result)
          elseif method == 'shutdown' then
            callback(nil, vim.NIL)
          else
            callback({ code = -32601, message = 'no such method' }, nil)
          end
        end)
        return true, id
      end,
      notify = function(method)
        if method == 'exit' then
          close()
        end
        return true
      end,
      is_closing = function()
        return closing
      end,
      terminate = close,
    }
  end
  return asked
end

--- From now on servers are real again.
function M.real()
  vim.lsp.rpc.start = start
end

--- Ends the process with what came of the tests.
function M.done()
  for _, c in ipairs(vim.lsp.get_clients()) do
    require('sightline.server').call(c, 'stop')
  end
  vim.wait(5000, function()
    return #vim.lsp.get_clients() == 0
  end, 10)
  io.stdout:write(('%d passed, %d failed\n'):format(passed, failed))
  vim.cmd(failed == 0 and passed > 0 and 'qall!' or 'cquit 1')
end

vim.o.columns, vim.o.lines = 110, 44
vim.o.swapfile = false
vim.cmd('filetype on')

return M
