-- A batch of units, in order, and its receipt.

local DO = {
  insert,
  move,
  put_doc,
  put_far_result,
  function(u)
    tell(u[2])
    return APPLIED
  end,
}

local MANY = { [6] = insert_plain, [7] = end_plain }

-- One look whether any of the new ids is known.
local function look_ahead(units)
  local keys = {}
  local function ask(id)
    if not fresh[id] then
      fresh[id] = true
      keys[#keys + 1] = row_key(id)
    end
  end
  for _, u in ipairs(units) do
    if u[1] == 1 then
      ask(u[2])
    elseif u[1] == 6 then
      for k = 1, #u[2], 5 do
        ask(u[2][k])
      end
    end
  end
  if #keys > 0 and call('EXISTS', unpack(keys)) > 0 then
    fresh = {}
  end
end

-- The receipt: outcomes as digits, and what few batches have: {taken, absent, riders, ...}.
local function apply(units)
  look_ahead(units)
  local outcomes, taken, absent, riders = {}, {}, {}, {}
  for _, u in ipairs(units) do
    if MANY[u[1]] then
      MANY[u[1]](u, outcomes)
    else
      local outcome, other, missing, refused = DO[u[1]](u)
      local at = #outcomes
      outcomes[at + 1] = outcome
      if other then
        taken[#taken + 1] = { at, other }
      end
      if missing then
        absent[#absent + 1] = { at, missing }
      end
      if refused and refused > 0 then
        riders[#riders + 1] = { at, refused }
      end
    end
  end
  for _, each in ipairs(outcomes.riders or {}) do
    riders[#riders + 1] = each
  end
  if event_number ~= (tonumber(META[3]) or 0) then
    call('HSET', KEYS[1], 'event', event_number)
  end
  flush()
  local queues = names(woken)
  if #queues + #taken + #absent + #riders + #stranded == 0 and not unreleased then
    return pack(table.concat(outcomes)) .. '\192'
  end
  return pack(table.concat(outcomes))
    .. pack({ taken, absent, riders, queues, stranded, unreleased })
end
