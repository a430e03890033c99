-- A row is a hash. `h` is its head as it was inserted: the pairs of a msgpack map, of which there
-- are HEAD (or `j`, if a newer version says so); `b` is its body. What the
-- scripts look at are raw fields of one letter; every other field that changes is kept under
-- its own name, as msgpack, and handed out unopened: so a newer version's fields survive.
--   s status   l line      r run_at   e epoch   a attempt   c claim    o owner    m cancel asked
--   f flags    w waiting   g ties     i children that have not ended   k keep_until
--   x expires_at   t started_at   d finished_at   n losses   p priority, once changed
--   z set as soon as anything but its first claim and its end has changed the row, and with `g`
--     and `j`: a row without it is as it was inserted, and has no ties

local INTS = {
  s = 'status', r = 'run_at', e = 'epoch', a = 'attempt', f = 'flags', w = 'waiting',
  k = 'keep_until', x = 'expires_at', t = 'started_at', d = 'finished_at', n = 'losses',
  p = 'priority',
}
local TEXTS = { c = 'claim', o = 'owner' }
local ZERO = { e = true, a = true, f = true, w = true, n = true, p = true }
local SKIP = { j = true, l = true, g = true, i = true, z = true }
local KEY = setmetatable({}, {
  __index = function(known, field)
    known[field] = pack(INTS[field] or TEXTS[field])
    return known[field]
  end,
})
local BODY_KEY, CANCEL_KEY = pack('body'), pack('cancel')
local HEAD = 14
local COLD = { b = true, error = true }

local function map(n, parts)
  return '\222' .. char(math.floor(n / 256), n % 256) .. table.concat(parts)
end

-- A row as msgpack, from all of its fields (a flat list). Later pairs win over those of the head.
local function whole(fields, cold)
  local parts, n, at = { '' }, HEAD, 1
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'h' then
      parts[1] = value
    elseif INTS[name] then
      n = n + 1
      parts[at + 1] = KEY[name]
      parts[at + 2] = value ~= '' and int(value) or (ZERO[name] and '\0' or '\192')
      at = at + 2
    elseif TEXTS[name] then
      n = n + 1
      parts[at + 1] = KEY[name]
      parts[at + 2] = value ~= '' and pack(value) or '\192'
      at = at + 2
    elseif name == 'm' then
      n = n + 1
      parts[at + 1] = CANCEL_KEY
      parts[at + 2] = value == '1' and '\195' or '\194'
      at = at + 2
    elseif name == 'b' then
      if cold then
        n = n + 1
        parts[at + 1] = BODY_KEY
        parts[at + 2] = bin(value)
        at = at + 2
      end
    elseif name == 'j' then
      n = n - HEAD + tonumber(value)
    elseif not SKIP[name] and (cold or not COLD[name]) then
      n = n + 1
      parts[at + 1] = pack(name)
      parts[at + 2] = value
      at = at + 2
    end
  end
  return map(n, parts)
end

local function read_row(id, cold)
  return whole(call('HGETALL', row_key(id)), cold)
end

local function head_of(id)
  local v = call('HMGET', row_key(id), 'h', 'j')
  local n = tonumber(v[2]) or HEAD
  return cmsgpack.unpack('\222' .. char(0, n) .. v[1])
end

-- Whether reads show a row: within its stamp, or kept for a child.
local function visible(keep_until, children)
  return not keep_until or keep_until == '' or tonumber(keep_until) > now
    or (tonumber(children) or 0) > 0
end

-- The rows an owner runs, up to `limit`. What is no more is forgotten on the way.
local function running_of(owner, limit)
  local out = {}
  local counts_ = P .. 'o:' .. owner
  for _, claim in ipairs(call('HKEYS', counts_)) do
    local key = P .. 'oq:' .. owner .. ':' .. claim
    local given, live = call('LRANGE', key, 0, -1), {}
    for _, id in ipairs(given) do
      local v = call('HMGET', row_key(id), 's', 'c', 'o', 'e', 'f', 'l', 'r')
      if v[1] == '50' and v[2] == claim and v[3] == owner then
        live[#live + 1] = id
        local row = { id = id, claim = claim, epoch = v[4], flags = v[5] }
        row.line, row.run_at = v[6], v[7]
        out[#out + 1] = row
      end
    end
    if #live == 0 then
      call('HDEL', counts_, claim)
      call('DEL', key)
    elseif 4 * #live < #given then -- few of many: let the next look be short
      call('DEL', key)
      many('RPUSH', key, live)
    end
    if #out >= limit then
      break
    end
  end
  return out
end

-- Unique keys: who has one is written as 'until|id'.

local function holder(key)
  local kept = call('GET', P .. 'u:' .. key)
  if not kept then
    return nil
  end
  local till, id = string.match(kept, '^([^|]*)|(.*)$')
  if till ~= '' and tonumber(till) <= now then
    return nil
  end
  return id
end

local function take_key(id, unique)
  local key, till = unique[1], unique[2]
  if not till or till > now then
    call('SET', P .. 'u:' .. key, digits(till) .. '|' .. id)
    if till then
      zput(P .. 'uf', key, till)
    else
      zdel(P .. 'uf', key)
    end
  end
end

local function free_key(id, unique, a, b)
  local free = unique[3] or 'end'
  if (free == a or free == b) and holder(unique[1]) == id then
    call('DEL', P .. 'u:' .. unique[1])
    zdel(P .. 'uf', unique[1])
  end
end

-- Results: 'epoch|until|value' under a key of its own. The server forgets it in time, but for
-- those a child still waits for, and where a test's clock decides: `fade` lists these.

local function put_result(id, epoch, value, till, pinned, careful)
  local key = P .. 'v:' .. id
  if careful or META[2] then
    local known = call('GET', key)
    if known and tonumber(string.match(known, '^%d+')) > epoch then
      return false
    end
  end
  local kept = digits(epoch) .. '|' .. digits(till) .. '|' .. value
  if till and REAL and not pinned and till > now and till < 2 ^ 53 then
    call('SET', key, kept, 'PXAT', digits(till))
  else
    call('SET', key, kept)
    if till then
      zput(P .. 'fade', id, till)
    end
  end
  return true
end

local function until_of(kept)
  return tonumber(string.match(kept, '^%d+|([^|]*)|'))
end

-- Nobody waits for a parent any more: it may go when its time comes.
local function unpin(id)
  local keep = call('HGET', row_key(id), 'k')
  if keep and keep ~= '' then
    zput(P .. 'keep', id, keep)
  end
  local kept = call('GET', P .. 'v:' .. id)
  if kept and until_of(kept) then
    zput(P .. 'fade', id, until_of(kept))
  end
end
