-- Handing out: due rows are made ready, then each line is emptied from its best rank on.

local PROMOTE = 1000
local POPS = 2000 -- ranks one claim may look at: those past their end are chores by now

local STATUS_RUNNING = pack('status') .. int(RUNNING)

local function first_due(both)
  local at = call('ZRANGE', P .. 's:' .. both, 0, 0, 'WITHSCORES')[2]
  return at and tonumber(at)
end

-- Makes due rows ready; when the next one is due.
local function promote(both)
  local key, first = P .. 's:' .. both, first_due(both)
  if not first or first > now then
    return first
  end
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, PROMOTE)) do
    local row = row_key(id)
    local v = call('HMGET', row, 's', 'l', 'r')
    zdel(key, id)
    if v[1] == '30' then
      call('HSET', row, 's', READY)
      leave(id, SCHEDULED, v[2])
      enter(id, READY, v[2], v[3])
    end
  end
  flush()
  return first_due(both)
end

-- The least of what `ask` says of each line.
local function earliest(lanes, ask)
  local least = nil
  for both in pairs(lanes) do
    local at = ask(both)
    if at and (not least or at < least) then
      least = at
    end
  end
  return least
end

local owner, request, lease
local now_text = digits(now)

-- Rows handed out: who runs them, and since when the owner lives.
local function keep_lease(ids)
  many('RPUSH', P .. 'oq:' .. owner .. ':' .. request, ids)
  call('HINCRBY', P .. 'o:' .. owner, request, #ids)
  call('ZADD', P .. 'leases', now + lease, owner)
  topics['tasks'] = true
end

local function given_before()
  if call('HEXISTS', P .. 'o:' .. owner, request) == 0 then
    return nil
  end
  local tasks, chores = {}, {}
  for _, row in ipairs(running_of(owner, 1e9)) do
    if row.claim == request then
      local parts = split(row.line)
      local rank = { id = row.id, both = parts.both, p = parts.priority, r = tonumber(row.run_at) }
      if (tonumber(row.flags) or 0) == 0 then
        tasks[#tasks + 1] = rank
      else
        chores[#chores + 1] = rank
      end
    end
  end
  return tasks, chores
end

local function again(tasks, slots)
  local place = {}
  for i, slot in ipairs(slots) do
    local both = slot[1] .. ':' .. slot[2]
    place[both] = place[both] or i
  end
  table.sort(tasks, function(a, b)
    local here, there = place[a.both] or 1, place[b.both] or 1
    if here ~= there then
      return here < there
    elseif a.p ~= b.p then
      return a.p > b.p
    elseif a.r ~= b.r then
      return a.r < b.r
    end
    return a.id < b.id
  end)
end

-- Handed out by now: parts of msgpack, how many rows they are, and their ids.
local parts_out, rows_out, ids_out, size_out = {}, 0, {}, 0
local FIRST = KEY.e .. '\1' .. KEY.a .. '\1' -- the stamps of a first run
local MAP = '\222' .. char(0, HEAD + 7)

local function give(part)
  size_out = size_out + 1
  parts_out[size_out] = part
end

-- A row with a past, or with ties.
local function take_changed(id, row)
  local v = call('HMGET', row, 'e', 'a', 'x', 'g')
  local expires = v[3] and tonumber(v[3])
  if expires and expires <= now then
    return false
  end
  local epoch, attempt = (tonumber(v[1] or 0)) + 1, (tonumber(v[2] or 0)) + 1
  call('HSET', row, 's', '50', 'e', digits(epoch), 'a', digits(attempt), 'c', request,
    'o', owner, 't', now_text)
  if expires then
    zdel(P .. 'x', id)
  end
  if v[4] and has(v[4], HAS_KEY) then
    free_key(id, head_of(id).unique, 'start')
  end
  give(read_row(id, true))
  return true
end

local function take_row(id, tail)
  local row = row_key(id)
  local v = call('HMGET', row, 's', 'z', 'h', 'b')
  if v[1] ~= '40' then
    return false
  elseif v[2] then
    if not take_changed(id, row) then
      return false
    end
  else
    call('HSET', row, 's', '50', 'e', '1', 'a', '1', 'c', request, 'o', owner, 't', now_text)
    local body, n = v[4], size_out
    parts_out[n + 1] = MAP
    parts_out[n + 2] = v[3]
    parts_out[n + 3] = tail
    parts_out[n + 4] = bin_head(#body)
    parts_out[n + 5] = body
    size_out = n + 5
  end
  rows_out = rows_out + 1
  ids_out[rows_out] = id
  return true
end

-- Take up to `room` rows of one line; how many were taken.
local function take_line(line, room, budget)
  local queue, key, got = split(line).queue, P .. 'r:' .. line, 0
  local tail = FIRST .. STATUS_RUNNING .. KEY.c .. pack(request) .. KEY.o .. pack(owner)
    .. KEY.t .. pack(now) .. BODY_KEY
  while got < room and budget.pops > 0 do
    local asked = math.min(room - got, budget.pops)
    local popped = call('ZPOPMIN', key, asked)
    budget.pops = budget.pops - #popped / 2
    for i = 1, #popped, 2 do
      if take_row(popped[i], tail) then
        got = got + 1
      end
    end
    if #popped < 2 * asked then -- that was all
      break
    end
  end
  if got > 0 then
    count(queue, READY, -got)
    count(queue, RUNNING, got)
  end
  return got
end

local function paused(slots)
  local queues, seen, off = {}, {}, {}
  for _, slot in ipairs(slots) do
    if not seen[slot[1]] then
      seen[slot[1]] = true
      queues[#queues + 1] = slot[1]
    end
  end
  if #queues > 0 then
    local docs = call('HMGET', P .. 'dv:pause', unpack(queues))
    for i, queue in ipairs(queues) do
      if docs[i] then
        local till = string.match(docs[i], '^%d+|[^|]*|([^|]*)|')
        off[queue] = till == '' or tonumber(till) > now
      end
    end
  end
  return off
end

local function take_tasks(slots, limit, budget)
  local left, taken, off = limit, {}, paused(slots)
  for _, slot in ipairs(slots) do
    local queue, lane = slot[1], slot[2]
    local room = math.min(left, slot[3] - (taken[lane] or 0))
    if room > 0 and not off[queue] then
      local both = queue .. ':' .. lane
      for _, priority in ipairs(call('ZRANGE', P .. 'pr:' .. both, 0, -1)) do
        local got = take_line(both .. ':' .. priority, room, budget)
        left, room = left - got, room - got
        taken[lane] = (taken[lane] or 0) + got
        if room <= 0 or budget.pops <= 0 then
          break
        end
        call('ZREM', P .. 'pr:' .. both, priority)
      end
    end
  end
end

local function take_chore(id, v, flag, out, ids)
  local key, status = row_key(id), tonumber(v[1])
  local flags, epoch = with(v[4], flag), (tonumber(v[5]) or 0) + 1
  local losses = (tonumber(v[6]) or 0) + (flag == LOST and 1 or 0)
  call('HSET', key, 's', RUNNING, 'e', epoch, 'c', request, 'o', owner, 'f', flags,
    'n', losses, 'z', 1)
  leave(id, status, v[2], v[3], v[8])
  enter(id, RUNNING, v[2])
  zdel(P .. 'x', id)
  out[#out + 1] = read_row(id, true)
  ids[#ids + 1] = id
end

local function chore_state(id)
  return call('HMGET', row_key(id), 's', 'l', 'o', 'f', 'e', 'n', 'x', 'c')
end

local function take_chores(room, ids)
  local out = {}
  local leases = P .. 'leases'
  for _, silent in ipairs(call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
    if #out >= room then
      break
    end
    if silent ~= owner then
      local rows = running_of(silent, room - #out)
      for i = 1, math.min(#rows, room - #out) do
        take_chore(rows[i].id, chore_state(rows[i].id), LOST, out, ids)
      end
      flush()
      if #rows == 0 then
        call('ZREM', leases, silent)
      end
    end
  end
  if #out < room then
    for _, id in ipairs(call('ZRANGE', P .. 'sn', 0, room - #out - 1)) do
      local v = chore_state(id)
      if v[1] == '10' and has(v[4], STRANDED) then
        -- One that is past its end as well is told so.
        local late = tonumber(v[7]) and tonumber(v[7]) <= now
        take_chore(id, v, late and EXPIRED or STRANDED, out, ids)
      end
      zdel(P .. 'sn', id)
    end
    flush()
  end
  if #out < room then
    local late = call('ZRANGEBYSCORE', P .. 'x', '-inf', now, 'LIMIT', 0, room - #out)
    for _, id in ipairs(late) do
      local v = chore_state(id)
      local expires = tonumber(v[7])
      if tonumber(v[1]) and tonumber(v[1]) < RUNNING and expires and expires <= now then
        take_chore(id, v, EXPIRED, out, ids)
      else
        zdel(P .. 'x', id)
      end
    end
    flush()
  end
  return out
end

-- Gives next_due, tasks and chores as msgpack.
local function claim(asked) -- owner, request, lease, limit, chores, slots
  owner, request, lease = asked[1], asked[2], asked[3]
  local slots, lanes = asked[6], {}
  for _, slot in ipairs(slots) do
    lanes[slot[1] .. ':' .. slot[2]] = true
  end
  local next_due = earliest(lanes, promote)
  local tasks, chores = given_before()
  local given
  if tasks and #tasks + #chores > 0 then
    again(tasks, slots)
    for i, rank in ipairs(tasks) do
      tasks[i] = read_row(rank.id, true)
    end
    for i, rank in ipairs(chores) do
      chores[i] = read_row(rank.id, true)
    end
    given = array(tasks)
    call('ZADD', P .. 'leases', now + lease, owner)
  else
    local budget = { pops = POPS }
    take_tasks(slots, asked[4], budget)
    given = array_of(rows_out, parts_out)
    flush()
    chores = {}
    if budget.pops <= 0 and rows_out < asked[4] then
      next_due = now -- it looked at as much as one call may: let it come again
    end
    if asked[5] > 0 then
      chores = take_chores(asked[5], ids_out)
      if #chores > 0 then
        next_due = earliest(lanes, first_due)
      end
    end
    if #ids_out > 0 then
      keep_lease(ids_out)
    elseif call('EXISTS', P .. 'o:' .. owner) == 1 then
      call('ZADD', P .. 'leases', now + lease, owner)
    end
  end
  return (next_due and pack(next_due) or '\192') .. given .. array(chores)
end
