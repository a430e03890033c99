-- Removes what is past its stamp and goes on with releases. A: time, sender, limit.

local left = A[3]
local done = 0

local function did(n)
  left, done = left - n, done + n
end

for _, parent in ipairs(call('SRANDMEMBER', P .. 'rel', 16)) do
  local status = tonumber(call('HGET', row_key(parent), 's') or 0)
  if status < FINAL then
    call('SREM', P .. 'rel', parent)
  elseif left > 0 then
    did(release(parent, status, left))
  end
end
flush()

-- The children of a row forget it; whether all have.
local function forget(id)
  local children = call('SPOP', P .. 'c:' .. id, 500)
  for _, child in ipairs(children) do
    call('HDEL', P .. 'ed:' .. child, id)
  end
  return #children < 500
end

local function remove(id)
  local key = row_key(id)
  local v = call('HMGET', key, 's', 'l', 'o', 'g', 'k', 'i', 'c')
  local keep, status = tonumber(v[5]), tonumber(v[1])
  if not status or not keep or keep > now or (tonumber(v[6]) or 0) > 0 then
    zdel(P .. 'keep', id) -- one that children wait for comes back with the end of the last
    return 0
  end
  local head = head_of(id)
  if has(v[4], HAS_CHILDREN) then
    if not forget(id) then
      return 1
    end
    call('DEL', P .. 'c:' .. id, P .. 'co:' .. id)
    call('SREM', P .. 'rel', id)
  end
  if has(v[4], HAS_PARENTS) then
    local edges = call('HGETALL', P .. 'ed:' .. id)
    for i = 1, #edges, 2 do
      call('SREM', P .. 'c:' .. edges[i], id)
      call('SREM', P .. 'co:' .. edges[i], id)
      if status < FINAL then
        let_go(edges[i])
      end
    end
    call('DEL', P .. 'ed:' .. id)
  end
  if head.unique then
    free_key(id, head.unique, 'start', 'end')
    if not head.unique[2] then
      free_key(id, head.unique, 'time')
    end
  end
  local kept = call('GET', P .. 'v:' .. id)
  if kept and not until_of(kept) then -- it stays as long as its row
    call('DEL', P .. 'v:' .. id)
  end
  leave(id, status, v[2], v[3], v[7])
  zdel(P .. 'keep', id)
  zdel(P .. 'ids', id)
  zdel(P .. 'x', id)
  if head.group then
    zdel(P .. 'gr:' .. head.group, id)
  end
  call('UNLINK', key)
  return 1
end

local function past(set)
  if left <= 0 then
    return {}
  end
  return call('ZRANGEBYSCORE', P .. set, '-inf', now, 'LIMIT', 0, left)
end

for _, id in ipairs(past('keep')) do
  did(remove(id))
end
flush()
for _, id in ipairs(past('fade')) do
  local key = P .. 'v:' .. id
  local kept = call('GET', key)
  local till = kept and until_of(kept)
  local children = tonumber(call('HGET', row_key(id), 'i') or 0)
  zdel(P .. 'fade', id)
  if till and till <= now and children <= 0 then
    call('DEL', key)
    did(1)
  elseif till and till > now then
    zput(P .. 'fade', id, till)
  end
end
for _, entry in ipairs(past('lap')) do
  local kind, name = string.match(entry, '^([^%z]*)%z(.*)$')
  local kept = call('HGET', P .. 'dv:' .. kind, name)
  local till = kept and tonumber(string.match(kept, '^%d+|[^|]*|([^|]*)|'))
  zdel(P .. 'lap', entry)
  if till and till <= now then
    call('HDEL', P .. 'dv:' .. kind, name)
    zdel(P .. 'dk:' .. kind, name)
    zdel(P .. 'dd:' .. kind, name)
    did(1)
  end
end
for _, key in ipairs(past('uf')) do
  local kept = call('GET', P .. 'u:' .. key)
  zdel(P .. 'uf', key)
  if kept and not holder(key) then
    call('DEL', P .. 'u:' .. key)
    did(1)
  end
end
for _, number in ipairs(past('dim')) do
  local id = string.format('%d-0', number)
  local entry = call('XRANGE', P .. 'ev', id, id)[1]
  if entry then
    call('HDEL', P .. 'y:' .. entry[2][2], entry[2][4])
    call('XDEL', P .. 'ev', id)
  end
  zdel(P .. 'dim', number)
  did(1)
end
flush()

if done > 0 then
  topics['tasks'] = true
end
return pack({ done, publish() })
