--- Choosing one of several things: with the picker that is there, else with vim.ui.select().
local config = require('sightline.config')
local say = require('sightline.say')

local M = {}

--- Texts of rows whose columns stand below each other.
---@param rows (string|number)[][]
---@param right? boolean[] which columns are numbers
---@return string[]
function M.align(rows, right)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, vim.fn.strdisplaywidth(tostring(cell)))
    end
  end
  return vim.tbl_map(function(row)
    local cells = {}
    for i, cell in ipairs(row) do
      cell = tostring(cell)
      local fill = (' '):rep(widths[i] - vim.fn.strdisplaywidth(cell))
      cells[i] = right and right[i] and fill .. cell or i < #row and cell .. fill or cell
    end
    return (table.concat(cells, '  '):gsub('%s+$', ''))
  end, rows)
end

---@class sightline.Place
---@field path string
---@field line integer 1-based

---@param location sightline.Location?
---@return sightline.Place?
local function place_of(location)
  if location and location ~= vim.NIL then
    return { path = vim.uri_to_fname(location.uri), line = location.line + 1 }
  end
end

local adapters = {}

function adapters.snacks(items, opts, done)
  local list = {}
  for i, item in ipairs(items) do
    list[i] = {
      idx = i, text = item.text, file = item.place and item.place.path,
      pos = item.place and { item.place.line, 0 }, item = item,
    }
  end
  require('snacks').picker.pick({
    title = opts.prompt,
    items = list,
    format = function(entry)
      return { { entry.text } }
    end,
    confirm = function(picker, entry)
      picker:close()
      if entry then
        done(entry.item)
      end
    end,
  })
end

adapters['fzf-lua'] = function(items, opts, done)
  local list = {}
  for i, item in ipairs(items) do
    -- "path:line: text" is what its previewer reads; the number leads back to the item.
    list[i] = ('%d\t%s'):format(i, item.text)
  end
  local fzf = require('fzf-lua')
  local by = function(line)
    return items[tonumber(line:match('^(%d+)\t'))]
  end
  local previewer
  local ok, builtin = pcall(require, 'fzf-lua.previewer.builtin')
  if ok then
    previewer = builtin.buffer_or_file:extend()
    function previewer:new(o, fzf_opts, win)
      previewer.super.new(self, o, fzf_opts, win)
      setmetatable(self, previewer)
      return self
    end
    function previewer:parse_entry(line)
      local item = by(line)
      return item and item.place and { path = item.place.path, line = item.place.line, col = 1 } or {}
    end
  end
  fzf.fzf_exec(list, {
    prompt = opts.prompt .. ' ',
    previewer = previewer,
    fzf_opts = { ['--delimiter'] = '\t', ['--with-nth'] = '2..', ['--no-sort'] = '' },
    actions = {
      default = function(selected)
        local item = selected and selected[1] and by(selected[1])
        if item then
          done(item)
        end
      end,
    },
  })
end

function adapters.telescope(items, opts, done)
  local conf = require('telescope.config').values
  local actions, state = require('telescope.actions'), require('telescope.actions.state')
  require('telescope.pickers').new({}, {
    prompt_title = opts.prompt,
    finder = require('telescope.finders').new_table({
      results = items,
      entry_maker = function(item)
        local place = item.place
        return {
          value = item, display = item.text, ordinal = item.text,
          filename = place and place.path, path = place and place.path, lnum = place and place.line, col = 1,
        }
      end,
    }),
    sorter = conf.generic_sorter({}),
    previewer = conf.grep_previewer({}),
    attach_mappings = function(prompt)
      actions.select_default:replace(function()
        local entry = state.get_selected_entry()
        actions.close(prompt)
        if entry then
          done(entry.value)
        end
      end)
      return true
    end,
  }):find()
end

local modules = { snacks = 'snacks.picker', telescope = 'telescope', ['fzf-lua'] = 'fzf-lua' }

--- The picker for lists of places.
---@return string name
function M.picker()
  local chosen = config.get().picker
  if chosen == 'select' then
    return 'select'
  elseif chosen ~= 'auto' then
    if pcall(require, modules[chosen]) then
      return chosen
    end
    say.once('picker', ('The option picker is %q, which is not installed: vim.ui.select() is used.'):format(chosen))
    return 'select'
  end
  for _, name in ipairs({ 'snacks', 'fzf-lua', 'telescope' }) do
    if pcall(require, modules[name]) then
      return name
    end
  end
  return 'select'
end

---@class sightline.SelectOptions
---@field prompt string
---@field none string what is said where there is nothing to choose
---@field columns fun(item: any): (string|number)[]
---@field right? boolean[] which columns are numbers
---@field location? fun(item: any): sightline.Location? items are places, which a picker can show

--- Has a person choose one of items; done is not called where none is chosen.
---@param items any[]
---@param opts sightline.SelectOptions
---@param done fun(item: any)
function M.select(items, opts, done)
  if #items == 0 then
    say.info(opts.none)
    return
  end
  local texts = M.align(vim.tbl_map(opts.columns, items), opts.right)
  local rows = {}
  for i, item in ipairs(items) do
    rows[i] = { item = item, text = texts[i], place = opts.location and place_of(opts.location(item)) }
  end
  local function chosen(row)
    if row then
      done(row.item)
    end
  end
  local picker = opts.location and M.picker() or 'select'
  if picker ~= 'select' then
    adapters[picker](rows, opts, chosen)
    return
  end
  vim.ui.select(rows, {
    prompt = opts.prompt,
    kind = 'sightline',
    format_item = function(row)
      return row.text
    end,
  }, chosen)
end

--- Goes to a place, with a way back by CTRL-O.
---@param location sightline.Location?
---@return boolean there
function M.go(location)
  local place = place_of(location)
  if not place then
    return false
  end
  if vim.fn.filereadable(place.path) == 0 then
    say.warn(place.path .. ' is not on this machine.')
    return false
  end
  vim.cmd("normal! m'")
  if vim.fs.normalize(vim.api.nvim_buf_get_name(0)) ~= vim.fs.normalize(place.path) then
    local buf = vim.fn.bufadd(place.path)
    vim.bo[buf].buflisted = true
    local ok, err = pcall(vim.api.nvim_win_set_buf, 0, buf)
    if not ok then
      say.error(('%s is not shown: %s'):format(place.path, err))
      return false
    end
  end
  local line = math.max(1, math.min(place.line, vim.api.nvim_buf_line_count(0)))
  vim.api.nvim_win_set_cursor(0, { line, 0 })
  vim.cmd('normal! ^zv')
  return true
end

return M
