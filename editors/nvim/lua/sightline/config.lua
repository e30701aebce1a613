--- What a person chose: vim.g.sightline, then what was given to setup(). Nothing has to be chosen.
local M = {}

---@class sightline.Config
---@field cmd? string[] how the server is started; default: sightline in $PATH, or that of the checkout
---@field filetypes string[] of buffers that the server is started for
---@field settings table the server's settings, without their common prefix: { hints = { threshold = 2 } }
---@field lines sightline.Config.Lines
---@field lenses sightline.Config.Lenses
---@field progress 'auto'|boolean say in the message line how a recording goes; auto: unless something else shows progress
---@field picker 'auto'|'select'|'telescope'|'fzf-lua'|'snacks' what lists of places are chosen from
---@field hover? boolean answer vim.lsp.buf.hover(); default: from 0.11 on, where it joins several servers' answers

---@class sightline.Config.Lines
---@field enable boolean draw the costs of lines
---@field position 'eol'|'eol_right_align'|'right_align'
---@field delay integer ms after an edit until numbers are asked for again

---@class sightline.Config.Lenses
---@field enable boolean draw lenses
---@field position 'above'|'eol'

local function choice(...)
  local of = { ... }
  return function(v)
    return vim.tbl_contains(of, v), 'one of ' .. table.concat(vim.tbl_map(vim.inspect, of), ', ')
  end
end

local function kind(t)
  return function(v)
    return type(v) == t, 'a ' .. t
  end
end

local function strings(v)
  local ok = type(v) == 'table' and vim.islist(v)
  for _, s in ipairs(ok and v or {}) do
    ok = ok and type(s) == 'string'
  end
  return ok, 'a list of strings'
end

--- Default and check of each key.
local schema = {
  cmd = { nil, strings },
  filetypes = { { 'go', 'c', 'cpp', 'rust' }, strings },
  settings = { {}, kind('table') },
  lines = {
    enable = { true, kind('boolean') },
    position = { 'eol', choice('eol', 'eol_right_align', 'right_align') },
    delay = { 80, kind('number') },
  },
  lenses = {
    enable = { true, kind('boolean') },
    position = { 'above', choice('above', 'eol') },
  },
  progress = { 'auto', choice('auto', true, false) },
  picker = { 'auto', choice('auto', 'select', 'telescope', 'fzf-lua', 'snacks') },
  hover = { nil, kind('boolean') },
}

local function is_leaf(s)
  return s[2] ~= nil
end

local function take(into, from, keys, path, problems)
  for k, s in pairs(keys) do
    if not is_leaf(s) then
      into[k] = into[k] or {}
      take(into[k], {}, s, path .. k .. '.', problems)
    elseif into[k] == nil then
      into[k] = vim.deepcopy(s[1])
    end
  end
  for k, v in pairs(from) do
    local s, name = keys[k], path .. tostring(k)
    if not s then
      problems[#problems + 1] = ('there is no option %s: it has no effect'):format(name)
    elseif not is_leaf(s) then
      if type(v) == 'table' then
        take(into[k], v, s, name .. '.', problems)
      else
        problems[#problems + 1] = ('option %s is %s: make it a table'):format(name, vim.inspect(v))
      end
    else
      local ok, must = s[2](v)
      if ok then
        into[k] = vim.deepcopy(v)
      else
        problems[#problems + 1] = ('option %s is %s: make it %s'):format(name, vim.inspect(v), must)
      end
    end
  end
end

local given ---@type table?
local made ---@type sightline.Config?
local problems = {} ---@type string[]

local function make()
  made, problems = {}, {}
  local global = vim.g.sightline
  if type(global) == 'function' then
    global = global()
  end
  if global ~= nil and type(global) ~= 'table' then
    problems[1] = 'vim.g.sightline is ' .. vim.inspect(global) .. ': make it a table'
    global = nil
  end
  take(made, global or {}, schema, '', problems)
  take(made, given or {}, schema, '', problems)
end

--- The options in force.
---@return sightline.Config
function M.get()
  if not made then
    make()
  end
  return made
end

--- What is wrong with the options given, a sentence each.
---@return string[]
function M.problems()
  M.get()
  return problems
end

--- Takes options on top of vim.g.sightline. Mistakes are said once and count as not given.
---@param opts? table
function M.set(opts)
  given = opts
  make()
  if #problems > 0 then
    require('sightline.say').warn(table.concat(problems, '\n'))
  end
end

return M
