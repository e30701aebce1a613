--- The server: how it is found and started, what it is asked, and what happens when it ends.
local protocol = require('sightline.protocol')
local say = require('sightline.say')

local M = {}

local has11 = vim.fn.has('nvim-0.11') == 1

--- Calls a method of a client: they take the client itself from 0.11 on.
---@param client vim.lsp.Client
---@param name string
function M.call(client, name, ...)
  if has11 then
    return client[name](client, ...)
  end
  return client[name](...)
end

---@param client vim.lsp.Client
function M.stopped(client)
  return M.call(client, 'is_stopped')
end

--- The command that starts the server, or nil and why there is none.
---@return string[]? cmd
---@return string? why
function M.command()
  local cmd = require('sightline.config').get().cmd
  if cmd and cmd[1] then
    if vim.fn.executable(cmd[1]) == 1 then
      return cmd
    end
    return nil, ("Sightline's server is not started: %s, the program of the option cmd, cannot be run."):format(cmd[1])
  end
  local path = vim.fn.exepath('sightline')
  if path == '' then
    -- Beside the plugin, where that is a checkout of the whole project.
    local here = debug.getinfo(1, 'S').source:sub(2)
    local root = vim.fn.fnamemodify(here, ':p:h:h:h:h:h')
    local built = vim.fs.joinpath(root, 'bin', 'sightline')
    if vim.fn.executable(built) == 1 then
      path = built
    end
  end
  if path == '' then
    return nil, "Sightline's server is not found: put the program sightline into a folder of $PATH, or name it with "
      .. "vim.g.sightline = { cmd = { '/path/to/sightline' } }."
  end
  return { path, 'serve' }
end

M.logged = '' -- where the server that ran last says that it logs; "" where it writes to us

--- The log that the server writes to.
---@return string
function M.log()
  if M.logged ~= '' then
    return M.logged
  end
  return vim.lsp.get_log_path and not has11 and vim.lsp.get_log_path() or vim.lsp.log.get_filename()
end

--- The folder whose captures belong together with a file's, as the command line has it.
---@param buf integer
---@return string
function M.root(buf)
  for _, mark in ipairs({ '.git', 'go.work', 'go.mod', 'Cargo.toml' }) do
    local root = vim.fs.root(buf, mark)
    if root then
      return root
    end
  end
  local name = vim.api.nvim_buf_get_name(buf)
  return name ~= '' and vim.fs.dirname(name) or vim.fn.getcwd()
end

---@param buf integer
local function is_file(buf)
  local name = vim.api.nvim_buf_get_name(buf)
  return vim.bo[buf].buftype == '' and name ~= '' and not name:match('^%a[%w+.-]+:')
end

--- Names a buffer's file for methods that look near one; nil for a buffer that is no file.
---@param buf integer
---@return { uri: string }?
function M.near(buf)
  return is_file(buf) and { uri = vim.uri_from_bufnr(buf) } or nil
end

-- How servers ended, from the process to the client's callback, which is called at once.
local ended ---@type { code: integer, signal: integer }?

--- Starts the process. Neovim would report an abnormal end beside us, so it is told of a normal one.
local function connect(dispatchers)
  local cmd, why = M.command()
  if not cmd then
    error(why, 0)
  end
  local told = vim.tbl_extend('force', {}, dispatchers)
  told.on_exit = function(code, signal)
    ended = { code = code, signal = signal }
    dispatchers.on_exit(0, 0)
    ended = nil
  end
  return vim.lsp.rpc.start(cmd, told)
end

--- Tells which of the methods that the plugin uses a server does not have, and whether it is of another
--- version.
---@param client vim.lsp.Client
---@return string? problem
function M.mismatch(client)
  local answer = client.server_info -- from 0.11 on
  local version = answer and answer.version or M.version
  local mine = require('sightline.version')
  local experimental = vim.tbl_get(client.server_capabilities or {}, 'experimental', 'sightline', 'methods')
  local missing = {}
  for _, method in pairs(protocol.methods) do
    if not vim.tbl_contains(experimental or {}, method) then
      missing[#missing + 1] = method
    end
  end
  local words = version and version ~= '' and ('server ' .. version) or 'server'
  if #missing > 0 then
    table.sort(missing)
    return ('The Sightline %s is older than the plugin (%s): it has no %s. Update the server, or use the plugin that came with it.')
      :format(words, mine, table.concat(missing, ', '))
  end
  local theirs = version and vim.version.parse(version, { strict = false })
  local own = vim.version.parse(mine)
  if version and version:match('^v?%d+%.%d+') and theirs and own and (theirs.major ~= own.major or theirs.minor ~= own.minor)
    and not version:match('^v?0%.0%.0') then -- what Go calls a build that is no release
    return ('The Sightline %s and the plugin (%s) are of different versions: use those that were released together.')
      :format(words, mine)
  end
end

local waiting = {} ---@type fun(client: vim.lsp.Client)[]

local function on_init(client, result)
  M.version = vim.tbl_get(result or {}, 'serverInfo', 'version')
  local hover = require('sightline.config').get().hover
  if hover == false or hover == nil and not has11 then
    -- 0.10 asks each server for itself and lets the second answer take the cursor into the first.
    client.server_capabilities.hoverProvider = nil
  end
  local problem = M.mismatch(client)
  if problem then
    say.once('mismatch', problem)
  end
  M.logged = ''
  if vim.tbl_contains(vim.tbl_get(result or {}, 'capabilities', 'experimental', 'sightline', 'methods') or {}, protocol.methods.status) then
    M.call(client, 'request', protocol.methods.status, nil, function(err, status)
      if not err and status and status ~= vim.NIL then
        M.logged = status.log or ''
      end
    end)
  end
  local due = waiting
  waiting = {}
  vim.schedule(function() -- after the documents were opened
    for _, f in ipairs(due) do
      f(client)
    end
  end)
end

-- Restarting.

local crashes = {} ---@type number[] when, in ms
local served = {} ---@type table<integer, true> buffers that the server was started for
local window, most = 3 * 60 * 1000, 5
M.first_delay = 1000 -- ms until the first restart; each further one takes twice as long

local function on_exit(code, signal, client_id)
  local how = ended or { code = code, signal = signal }
  vim.schedule(function()
    require('sightline.attach').forget(client_id)
    require('sightline.status').reset()
    waiting = {}
    local leaving = vim.v.exiting ~= vim.NIL
    if leaving or M.stopping == client_id or how.signal == 15 or how.signal == 0 and how.code == 0 then
      served = {}
      return
    end
    local now = vim.uv.now()
    crashes = vim.tbl_filter(function(t)
      return now - t < window
    end, crashes)
    crashes[#crashes + 1] = now
    local what = how.signal ~= 0 and ('by signal ' .. how.signal) or ('with status ' .. how.code)
    if #crashes > most then
      say.error(("Sightline's server ended %s for the %dth time in three minutes and is not started again. Its log is %s. :Sightline restart tries once more.")
        :format(what, #crashes, M.log()))
      return
    end
    if #crashes == 1 then
      say.warn(("Sightline's server ended %s and is started again. Its log is %s"):format(what, M.log()))
    end
    vim.defer_fn(function()
      M.start_all(vim.tbl_keys(served))
    end, M.first_delay * 2 ^ (#crashes - 1))
  end)
end

--- Takes note that the server serves a buffer, and is to do so after a crash.
---@param buf integer
function M.serves(buf)
  served[buf] = true
end

--- Starts the server for buffers that had it, as far as they are still there.
---@param buffers integer[]
function M.start_all(buffers)
  table.sort(buffers)
  for _, buf in ipairs(buffers) do
    if vim.api.nvim_buf_is_loaded(buf) then
      M.start(buf)
    end
  end
end

--- Ends the server and starts it again.
function M.restart()
  crashes = {}
  say.again('mismatch')
  say.again('missing')
  local buffers = {}
  for _, client in ipairs(vim.lsp.get_clients({ name = 'sightline' })) do
    M.stopping = client.id
    vim.list_extend(buffers, vim.tbl_keys(client.attached_buffers))
    M.call(client, 'stop')
  end
  if #buffers == 0 then
    buffers = { vim.api.nvim_get_current_buf() }
  end
  local tries = 0
  local function again()
    tries = tries + 1
    if #vim.lsp.get_clients({ name = 'sightline' }) > 0 and tries < 100 then
      vim.defer_fn(again, 50)
    else
      M.start_all(buffers)
    end
  end
  again()
end

--- The configuration of the client, as vim.lsp.enable() and vim.lsp.start() take it.
---@return table
function M.config()
  local opts = require('sightline.config').get()
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities = vim.tbl_deep_extend('force', capabilities, {
    workspace = { codeLens = { refreshSupport = true } },
    experimental = { sightline = { changed = true } },
  })
  return {
    name = 'sightline',
    cmd = connect,
    filetypes = opts.filetypes,
    root_dir = function(buf, on_dir)
      local cmd, why = M.command()
      if not cmd then
        say.once('missing', why)
      elseif is_file(buf) then
        on_dir(M.root(buf))
      end
    end,
    -- One server for all: it finds the project of each file by itself.
    reuse_client = function(client)
      return client.name == 'sightline' and not M.stopped(client)
    end,
    capabilities = capabilities,
    -- The layer draws costs; the server's hints would say them once more.
    settings = { sightline = vim.tbl_deep_extend('force', { hints = { enable = not opts.lines.enable } }, opts.settings) },
    commands = require('sightline.record').commands,
    handlers = require('sightline.attach').handlers,
    on_init = on_init,
    on_exit = on_exit,
  }
end

--- Starts the server for a buffer, or attaches the one that runs.
---@param buf integer
---@return integer? client_id
function M.start(buf)
  local cmd, why = M.command()
  if not cmd then
    say.once('missing', why)
    return
  end
  local config = has11 and vim.lsp.config.sightline or M.config()
  local reuse = config.reuse_client or M.config().reuse_client
  config = vim.tbl_extend('force', config, { root_dir = M.root(buf) })
  M.serves(buf)
  if not is_file(buf) then
    return vim.lsp.start(config, { reuse_client = reuse, attach = false, bufnr = buf })
  end
  return vim.lsp.start(config, { bufnr = buf, reuse_client = reuse })
end

--- The client of a buffer, or any there is; nil while none is ready.
---@param buf? integer
---@return vim.lsp.Client?
function M.client(buf)
  local all = vim.lsp.get_clients({ name = 'sightline', bufnr = buf })
  if #all == 0 and buf then
    all = vim.lsp.get_clients({ name = 'sightline' })
  end
  for _, client in ipairs(all) do
    if not M.stopped(client) then
      return client
    end
  end
end

--- Has f called with a client that is ready, starting the server if none runs.
---@param f fun(client: vim.lsp.Client)
function M.with(f)
  local buf = vim.api.nvim_get_current_buf()
  local client = M.client(buf)
  if client and client.initialized and (client.attached_buffers[buf] or not is_file(buf)) then
    f(client)
    return
  end
  if client and client.initialized then
    M.start(buf) -- attaches this buffer too
    f(client)
    return
  end
  waiting[#waiting + 1] = f
  require('sightline').enable() -- who asks once wants it for the next file, too
  if not M.start(buf) then
    local _, why = M.command()
    waiting = {}
    if why then
      say.warn(why) -- also when it was said before: somebody has asked
    end
  end
end

--- Words of an error that the server answered.
---@param err lsp.ResponseError|string
---@param what string method or command
---@return string
function M.words(err, what)
  if type(err) == 'string' then
    return err
  end
  if err.code == vim.lsp.protocol.ErrorCodes.MethodNotFound then
    return ("Sightline's server%s does not know %s: it is older than the plugin (%s), please update it.")
      :format(M.version and (' ' .. M.version) or '', what, require('sightline.version'))
  end
  return err.message or vim.inspect(err)
end

local cancelled = { [-32800] = true, [-32801] = true, [-32802] = true }

--- Asks the server. An error is said, unless f takes it: f(result, err).
---@param method string
---@param params table?
---@param f fun(result: any, err: table?)
---@param quiet? boolean f looks after errors
function M.request(method, params, f, quiet)
  M.with(function(client)
    M.call(client, 'request', method, params, function(err, result)
      if err and not quiet then
        if not cancelled[err.code] then
          say.error(M.words(err, method))
        end
        return
      end
      f(result ~= vim.NIL and result or nil, err)
    end)
  end)
end

--- Runs one of the server's commands.
---@param name string
---@param args table? its one argument
---@param f? fun(result: any, err: table?)
---@param quiet? boolean f looks after errors
function M.execute(name, args, f, quiet)
  M.request('workspace/executeCommand', { command = name, arguments = args and { args } or nil }, function(result, err)
    if f then
      f(result, err)
    end
  end, quiet)
end

return M
