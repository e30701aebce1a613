--- Captures: choosing what is shown, comparing, and keeping order.
local pick = require('sightline.pick')
local protocol = require('sightline.protocol')
local say = require('sightline.say')
local server = require('sightline.server')

local M = {}

--- Has a person choose a stored capture.
---@param prompt string
---@param f fun(c: sightline.CaptureInfo)
function M.choose(prompt, f)
  server.request(protocol.methods.captures, nil, function(captures)
    pick.select(captures or {}, {
      prompt = prompt,
      none = 'Nothing is recorded yet: :Sightline profile records the test at the cursor.',
      ---@param c sightline.CaptureInfo
      columns = function(c)
        local marks = {}
        if c.shown then marks[#marks + 1] = 'shown' end
        if c.pinned then marks[#marks + 1] = 'pinned' end
        if c.interrupted then marks[#marks + 1] = 'interrupted' end
        return { c.target, c.text, table.concat(marks, ', '), c.note }
      end,
    }, f)
  end)
end

---@param capture string
function M.show(capture)
  server.execute('sightline.openCapture', { capture = capture })
end

--- What can be done with one capture.
---@param c sightline.CaptureInfo
local function menu(c)
  local id = { capture = c.id }
  local items = {
    { 'show its costs in the source', function() M.show(c.id) end },
    { 'call tree', function() require('sightline.tree').open({ source = id }) end },
    { 'flame graph', function() require('sightline.flame').open({ source = id }) end },
    { 'compare with an older one…', function() M.diff(nil, c.id) end },
    { 'make it the baseline of lenses', function() server.execute('sightline.setBaseline', id) end },
    { c.pinned and 'unpin' or 'pin: never removed to make room', function()
      server.execute('sightline.pinCapture', { capture = c.id, pinned = not c.pinned })
    end },
    { 'note…', function()
      vim.ui.input({ prompt = 'Note: ', default = c.note }, function(note)
        if note then
          server.execute('sightline.noteCapture', { capture = c.id, note = note })
        end
      end)
    end },
    { 'remove', function()
      if vim.fn.confirm(('Remove the capture of %s (%s)?'):format(c.target, c.text), '&Remove\n&Keep', 2) == 1 then
        server.execute('sightline.removeCapture', id)
      end
    end },
  }
  vim.ui.select(items, {
    prompt = ('%s, %s:'):format(c.target, c.text),
    format_item = function(item)
      return item[1]
    end,
  }, function(item)
    if item then
      item[2]()
    end
  end)
end

--- Lists the stored captures, and what can be done with the one that is chosen.
function M.list()
  M.choose('Captures', menu)
end

--- Shows the costs of a capture, or of a file that another tool wrote; without a name one is chosen.
---@param name? string
function M.open(name)
  if not name or name == '' then
    M.choose('Show the costs of which capture?', function(c)
      M.show(c.id)
    end)
    return
  end
  local path = vim.fs.normalize(vim.fn.fnamemodify(vim.fn.expand(name), ':p'))
  if name:find('[/.]') and vim.fn.filereadable(path) == 1 then
    server.execute('sightline.importFile', { path = path }) -- which shows it, too
    return
  end
  M.show(name)
end

--- Shows nothing until something new is recorded.
function M.clear()
  server.execute('sightline.clear')
end

--- Switches what numbers mean: total and self, how they are written, what was measured. Without a word from total to
--- self and back.
---@param words string[]
function M.metric(words)
  local args = {}
  for _, word in ipairs(words) do
    if word == 'total' or word == 'self' then
      args.metric = word
    elseif word == 'both' or word == 'percent' or word == 'time' then
      args.unit = word
    else
      args.kind = word -- the server knows what was measured
    end
  end
  server.execute('sightline.setMetric', next(args) and args or nil, function(state)
    if state then
      say.info(('Lines show their %s cost%s%s.'):format(state.metric, state.kind ~= '' and (' of ' .. state.kind) or '',
        state.unit == 'both' and '' or (' as ' .. (state.unit == 'time' and 'time' or 'percent'))))
    end
  end)
end

--- The difference of two captures as a tree. Those not named are chosen.
---@param before? string
---@param after? string
function M.diff(before, after)
  local function open(b, a)
    require('sightline.tree').open({ source = { capture = a }, before = { capture = b } })
  end
  local function with_before(b)
    if after and after ~= '' then
      open(b, after)
    else
      M.choose('…with which later capture?', function(c)
        open(b, c.id)
      end)
    end
  end
  if before and before ~= '' then
    open(before, after ~= '' and after or '@')
  else
    M.choose('Compare which earlier capture…', function(c)
      with_before(c.id)
    end)
  end
end

return M
