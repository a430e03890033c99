-- What every script begins with: time, keys, and changes that are collected and made at once.
-- KEYS[1] is the namespace's meta hash; all other keys share its prefix, and so its slot.
-- ARGV[1] is one msgpack array; A[1] is a time (0: the server's), A[2] who sends it.

local call = redis.call
local P = string.sub(KEYS[1], 1, -5)
local A = cmsgpack.unpack(ARGV[1])
local REAL = A[1] == 0
local now = A[1]
if REAL then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local READER = 1 -- the format these scripts read
local META = call('HMGET', KEYS[1], 'min_reader', 'far', 'event')
if META[1] and tonumber(META[1]) > READER then
  return redis.error_reply('OMNIQ_FORMAT ' .. META[1])
end

local WAITING, SCHEDULED, READY, RUNNING, FINAL = 10, 30, 40, 50, 60
local SUCCEEDED, CANCELLED = 60, 80
local STRANDED, EXPIRED, LOST = 1, 2, 4
-- Bits of a row's `g`: what its end has to look after besides itself.
local HAS_KEY, HAS_PARENTS, HAS_CHILDREN = 1, 2, 4
-- Statuses found through an index of their own; the others are found by id.
local INDEXED = { [10] = true, [30] = true, [70] = true, [80] = true, [90] = true }

local function has(bits, bit)
  return math.floor((tonumber(bits) or 0) / bit) % 2 == 1
end

local function with(bits, bit)
  bits = tonumber(bits) or 0
  return has(bits, bit) and bits or bits + bit
end

-- A whole number, or none, as text. Lua by itself writes large ones as 1e+15, and Redis takes
-- its time over each that it is given as a number.
local texts = {}
local function digits(n)
  if not n then
    return ''
  end
  local known = texts[n]
  if not known then
    known = string.format('%.0f', n)
    texts[n] = known
  end
  return known
end

local function row_key(id)
  return P .. 't:' .. id
end

-- Calls with many arguments, in portions the Lua stack can hold.
local function many(command, key, args)
  local n = #args
  if n == 0 then
    return
  elseif n <= 2000 then
    call(command, key, unpack(args))
  else
    for i = 1, n, 2000 do
      call(command, key, unpack(args, i, math.min(i + 1999, n)))
    end
  end
end

local topics = {}    -- what to signal
local woken = {}     -- queues in which a row became READY
local counts = {}    -- 'queue:status' -> change
local adds = {}      -- sorted set -> score, member, score, member ...: of rows just made
local left_off = {}  -- owner -> claim -> how many of its rows run no more
local pending = {}   -- sorted set -> member -> score, or false: take it out
local priorities = {} -- 'queue:lane' -> priority -> true
local put_off = {}   -- set of scheduled rows -> queue

local function zput(key, member, score)
  local set = pending[key]
  if not set then
    set = {}
    pending[key] = set
  end
  set[member] = score
end

local function zdel(key, member)
  zput(key, member, false)
end

local function zadd(key, member, score)
  local list = adds[key]
  if not list then
    list = {}
    adds[key] = list
  end
  local n = #list
  list[n + 1] = score
  list[n + 2] = member
end

local function count(queue, status, change)
  local name = queue .. ':' .. status
  counts[name] = (counts[name] or 0) + change
end

-- A line is 'queue:lane:priority'.
local lines = {}
local function split(line)
  local parts = lines[line]
  if not parts then
    local queue, lane, priority = string.match(line, '^([^:]*):([^:]*):(.*)$')
    parts = { queue = queue, both = queue .. ':' .. lane, priority = tonumber(priority) }
    lines[line] = parts
  end
  return parts
end

local function put_priority(parts)
  local known = priorities[parts.both]
  if not known then
    known = {}
    priorities[parts.both] = known
  end
  known[parts.priority] = true
end

-- A row comes to a status: into its indexes.
local function enter(id, status, line, run_at)
  local parts = split(line)
  if status == READY then
    zput(P .. 'r:' .. line, id, run_at)
    put_priority(parts)
    woken[parts.queue] = true
    topics['queue:' .. parts.queue] = true
  elseif status == SCHEDULED then
    local key = P .. 's:' .. parts.both
    zput(key, id, run_at)
    put_off[key] = parts.queue
  end
  if INDEXED[status] then
    zput(P .. 'st:' .. status, id, 0)
  end
  count(parts.queue, status, 1)
end

-- What an owner runs stands by claim: `o:<owner>` counts the rows of each that still run, and
-- `oq:<owner>:<claim>` lists what it was given. Nothing is searched when one of them ends.
local function ran(owner, claim, n)
  local claims = left_off[owner]
  if not claims then
    claims = {}
    left_off[owner] = claims
  end
  claims[claim] = (claims[claim] or 0) + n
end

-- A row leaves a status: out of its indexes.
local function leave(id, status, line, owner, claim)
  local parts = split(line)
  if status == READY then
    zdel(P .. 'r:' .. line, id)
  elseif status == SCHEDULED then
    zdel(P .. 's:' .. parts.both, id)
  elseif status == RUNNING then
    ran(owner or '', claim or '', 1)
  elseif status == WAITING then
    zdel(P .. 'sn', id)
  end
  if INDEXED[status] then
    zdel(P .. 'st:' .. status, id)
  end
  count(parts.queue, status, -1)
end

local function flush()
  for key, list in pairs(adds) do
    many('ZADD', key, list)
  end
  adds = {}
  for owner, claims in pairs(left_off) do
    for claim, n in pairs(claims) do
      if call('HINCRBY', P .. 'o:' .. owner, claim, -n) <= 0 then
        call('HDEL', P .. 'o:' .. owner, claim)
        call('DEL', P .. 'oq:' .. owner .. ':' .. claim)
      end
    end
  end
  left_off = {}
  for key, set in pairs(pending) do
    local add, del, first = {}, {}, nil
    local a, d = 0, 0
    for member, score in pairs(set) do
      if score then
        add[a + 1] = score
        add[a + 2] = member
        a = a + 2
        if put_off[key] and (not first or tonumber(score) < first) then
          first = tonumber(score)
        end
      else
        d = d + 1
        del[d] = member
      end
    end
    if first then -- due before what a sleeping worker knows of
      local known = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
      if not known or first < tonumber(known) then
        topics['queue:' .. put_off[key]] = true
      end
    end
    many('ZADD', key, add)
    many('ZREM', key, del)
  end
  for both, set in pairs(priorities) do
    local add = {}
    for priority in pairs(set) do
      add[#add + 1] = -priority
      add[#add + 1] = priority
    end
    many('ZADD', P .. 'pr:' .. both, add)
  end
  pending, priorities, put_off = {}, {}, {}
end

local function publish()
  local list = {}
  for name, change in pairs(counts) do
    if change ~= 0 then
      if call('HINCRBY', P .. 'n', name, change) == 0 then
        call('HDEL', P .. 'n', name)
      end
      topics['tasks'] = true
    end
  end
  for topic in pairs(topics) do
    list[#list + 1] = topic
    call('PUBLISH', P .. '@' .. topic, A[2])
  end
  return list
end

-- msgpack, written by hand: rows and results go out as they were kept, unopened.

local char, pack = string.char, cmsgpack.pack

local function int(n)
  n = tonumber(n)
  if n >= 0 and n < 128 then
    return char(n)
  end
  return pack(n)
end

local function big(n, size)
  local out = {}
  for i = size, 1, -1 do
    out[i] = char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

-- What begins the bytes of a bin.
local function bin_head(n)
  if n < 256 then
    return '\196' .. char(n)
  elseif n < 65536 then
    return '\197' .. big(n, 2)
  end
  return '\198' .. big(n, 4)
end

local function bin(bytes)
  return bin_head(#bytes) .. bytes
end

-- An array of `n` whose bytes come in any number of parts.
local function array_of(n, parts)
  return (n < 16 and char(144 + n) or '\221' .. big(n, 4)) .. table.concat(parts)
end

local function array(parts)
  return array_of(#parts, parts)
end

local function names(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  return list
end
