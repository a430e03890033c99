-- A page of rows by id. A: time, sender, limit, scan, cursor, oldest_first, and what must match:
-- statuses, queues, owner, needles ({field, any of these texts}), and where ids are listed.
-- Gives cursor or nil, and rows. Ids come from an index; what needs an open row is for the client.

local limit, scan, cursor, oldest = A[3], A[4], A[5], A[6]
local filter = A[7]
local statuses, queues = filter.statuses, filter.queues

-- Sorted ids of a set, those behind the cursor.
local function listed(ids)
  table.sort(ids, function(a, b)
    if oldest then
      return a < b
    end
    return a > b
  end)
  local out = {}
  for _, id in ipairs(ids) do
    if not cursor or (oldest and id > cursor) or (not oldest and id < cursor) then
      out[#out + 1] = id
      if #out == scan then
        break
      end
    end
  end
  return out
end

local function by_index(key)
  local from = cursor and '(' .. cursor or (oldest and '-' or '+')
  if oldest then
    return call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, scan)
  end
  return call('ZREVRANGEBYLEX', key, from, '-', 'LIMIT', 0, scan)
end

local ids
local only = filter.only -- the one status asked for
if filter.parent then
  ids = listed(call('SMEMBERS', P .. 'c:' .. filter.parent))
elseif filter.group then
  ids = by_index(P .. 'gr:' .. filter.group)
elseif only and INDEXED[only] then
  ids = by_index(P .. 'st:' .. only)
elseif only == RUNNING then
  local all = {}
  for _, who in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    for _, row in ipairs(running_of(who, 1e9)) do
      all[#all + 1] = row.id
    end
  end
  ids = listed(all)
else
  ids = by_index(P .. 'ids')
end

local function any(text, wanted)
  for _, one in ipairs(wanted) do
    if text and string.find(text, one, 1, true) then
      return true
    end
  end
  return false
end

local function matches(v)
  if not v[1] or not visible(v[2], v[3]) then
    return false
  elseif statuses and not statuses[v[1]] then
    return false
  elseif queues and not queues[split(v[4]).queue] then
    return false
  elseif filter.owner and v[5] ~= filter.owner then
    return false
  end
  for _, needle in ipairs(filter.needles) do
    -- What was changed later stands in a field of its own; the client looks again.
    if not any(v[6], needle[2]) and not any(v[needle[1]], needle[2]) then
      return false
    end
  end
  return true
end

local out, last = {}, nil
for _, id in ipairs(ids) do
  local v = call('HMGET', row_key(id), 's', 'k', 'i', 'l', 'o', 'h', 'tags', 'fault')
  if matches(v) then
    if #out == limit then
      return '\147' .. pack(last or '') .. '\195' .. array(out)
    end
    out[#out + 1] = read_row(id, false)
  end
  last = id
end
if #ids == scan and last then -- there may be more
  return '\147' .. pack(last) .. '\194' .. array(out)
end
return '\147\192\194' .. array(out)
