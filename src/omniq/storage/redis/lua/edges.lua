-- Edges: ed:<child> maps each parent to need and state ('s1'); c:<parent> are all its children,
-- co:<parent> those it has not come to yet. States: 1 open, 2 met, 3 failed, 4 child ended first.

local stranded = {}
local unreleased = false

local function ended(status, need)
  if status < FINAL then
    return '1'
  end
  return (need == 'e' or status == SUCCEEDED) and '2' or '3'
end

-- A new row's edges, the parents it may not be without, and whether one failed it.
local function weigh(deps)
  local edges, absent, failed = {}, {}, false
  for _, dep in ipairs(deps) do
    local parent, need, missing = dep[1], dep[2], dep[3]
    local v = call('HMGET', row_key(parent), 's', 'k', 'i')
    if not v[1] or not visible(v[2], v[3]) then
      failed = failed or missing == 'f'
      if missing == 'r' then
        absent[#absent + 1] = parent
      end
    else
      local state = ended(tonumber(v[1]), need)
      failed = failed or state == '3'
      if not edges[parent] or need == 's' then
        edges[parent] = need .. state
      end
    end
  end
  return edges, absent, failed
end

-- One child more, or one less, that has not ended: so long its parents and their results stay.
local function hold(parent)
  call('HINCRBY', row_key(parent), 'i', 1)
  if call('PERSIST', P .. 'v:' .. parent) == 1 then
    unpin(parent)
  end
end

local function let_go(parent)
  if call('HINCRBY', row_key(parent), 'i', -1) == 0 then
    unpin(parent)
  end
end

local function tie(child, edges)
  for parent, edge in pairs(edges) do
    call('HSET', P .. 'ed:' .. child, parent, edge)
    call('SADD', P .. 'c:' .. parent, child)
    if string.sub(edge, 2) == '1' then
      call('SADD', P .. 'co:' .. parent, child)
    end
    local key = row_key(parent)
    call('HSET', key, 'g', with(call('HGET', key, 'g'), HAS_CHILDREN), 'z', 1)
    hold(parent)
  end
end

local function close(child, was_open)
  local edges = call('HGETALL', P .. 'ed:' .. child)
  for i = 1, #edges, 2 do
    local parent, edge = edges[i], edges[i + 1]
    if string.sub(edge, 2) == '1' then
      call('HSET', P .. 'ed:' .. child, parent, string.sub(edge, 1, 1) .. '4')
      call('SREM', P .. 'co:' .. parent, child)
    end
    if was_open then
      let_go(parent)
    end
  end
end

local function reopen(child)
  for _, parent in ipairs(call('HKEYS', P .. 'ed:' .. child)) do
    hold(parent)
  end
end

-- Tell an ended row's children of it, up to `limit` of them; how many were told.
local function release(parent, status, limit)
  local open = P .. 'co:' .. parent
  local children = limit > 0 and call('SPOP', open, limit) or {}
  for _, id in ipairs(children) do
    local key = row_key(id)
    local need = string.sub(call('HGET', P .. 'ed:' .. id, parent), 1, 1)
    local state = ended(status, need)
    call('HSET', P .. 'ed:' .. id, parent, need .. state)
    local v = call('HMGET', key, 's', 'w', 'f', 'l', 'r')
    if v[1] then
      local was, waiting = tonumber(v[1]), (tonumber(v[2]) or 0) - 1
      call('HSET', key, 'w', waiting, 'z', 1)
      if was == WAITING and state == '3' then
        call('HSET', key, 'f', with(v[3], STRANDED))
        zput(P .. 'sn', id, 0)
        stranded[#stranded + 1] = id
      elseif was == WAITING and waiting == 0 and not has(v[3], STRANDED) then
        local to = tonumber(v[5]) > now and SCHEDULED or READY
        call('HSET', key, 's', to)
        leave(id, was, v[4])
        enter(id, to, v[4], v[5])
      end
    end
  end
  if call('EXISTS', open) == 1 then
    unreleased = true
    call('SADD', P .. 'rel', parent)
  else
    call('SREM', P .. 'rel', parent)
  end
  return #children
end
