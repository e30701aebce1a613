--- :checkhealth sightline
local M = {}

local function run(cmd)
  local ok, job = pcall(vim.system, cmd, { text = true })
  if not ok then
    return nil, tostring(job)
  end
  local done = job:wait(30000)
  return done
end

local function check_server(health, server)
  local cmd, why = server.command()
  if not cmd then
    health.error(why, { 'Build it with `make build` in a checkout of Sightline, and put bin/sightline into a folder of $PATH.' })
    return
  end
  health.ok('server: ' .. table.concat(cmd, ' '))
  local done, failed = run({ cmd[1], 'version' })
  if not done or done.code ~= 0 then
    health.error(('%s version does not run: %s'):format(cmd[1], failed or vim.trim(done.stderr or '')))
    return
  end
  health.info(('%s; plugin %s'):format(vim.trim(done.stdout), require('sightline.version')))
  local doctor = run({ cmd[1], 'doctor' })
  if doctor and doctor.code == 0 then
    health.ok('programs of your own can be recorded')
  else
    health.warn('recording is limited here, see below and `sightline doctor`')
  end
  if doctor and doctor.stdout ~= '' then
    health.info('sightline doctor says:\n' .. vim.trim(doctor.stdout))
  end
end

local function check_clients(health, server)
  local clients = vim.lsp.get_clients({ name = 'sightline' })
  if #clients == 0 then
    health.info("no server runs: it starts with a file of a type in the option filetypes, after vim.lsp.enable('sightline') "
      .. "(0.11 and later) or require('sightline').setup(), or with the first :Sightline command")
    return
  end
  for _, client in ipairs(clients) do
    local problem = server.mismatch(client)
    if problem then
      health.warn(problem)
    else
      health.ok(('server runs for %d buffers; server and plugin fit'):format(vim.tbl_count(client.attached_buffers)))
    end
    health.info(('positions are counted in %s; the log is %s'):format(client.offset_encoding, server.log()))
  end
end

function M.check()
  local health = vim.health
  local server = require('sightline.server')
  health.start('Sightline')
  if vim.fn.has('nvim-0.10') == 0 then
    health.error('Neovim is older than 0.10', { 'Update Neovim.' })
    return
  end
  health.ok('Neovim ' .. tostring(vim.version()))
  local problems = require('sightline.config').problems()
  for _, p in ipairs(problems) do
    health.warn(p)
  end
  if #problems == 0 then
    health.ok('options are as they must be')
  end

  health.start('Sightline: server')
  check_server(health, server)
  check_clients(health, server)

  health.start('Sightline: what numbers are shown with')
  local opts = require('sightline.config').get()
  health.info(('costs of lines are %s, lenses %s'):format(
    opts.lines.enable and ('drawn by the plugin at ' .. opts.lines.position) or "left to the server's inlay hints",
    opts.lenses.enable and ('drawn ' .. (opts.lenses.position == 'eol' and 'at line ends' or 'above functions')) or 'not drawn'))
  local ok, picker = pcall(function()
    return require('sightline.pick').picker()
  end)
  health.info('places are chosen with ' .. (ok and picker ~= 'select' and picker or 'vim.ui.select()'))
end

return M
