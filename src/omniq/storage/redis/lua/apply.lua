-- Units: each is checked, then applied with its riders. Outcomes as in `Applied`.

local APPLIED, ALREADY, REFUSED, ASKED = 1, 2, 3, 4
local UNIT_ROWS = 500

local event_number = tonumber(META[3]) or 0

local function tell(events)
  for _, e in ipairs(events) do -- task, 'epoch.n', keep_until, the event's bytes
    local number = event_number + 1
    if call('HSETNX', P .. 'y:' .. e[1], e[2], number) == 1 then
      event_number = number
      call('XADD', P .. 'ev', number .. '-0', 't', e[1], 'f', e[2], 'k', e[3], 'e', e[4])
      if e[3] ~= '' then
        zput(P .. 'dim', number, e[3])
      end
      topics['events'] = true
    end
  end
end

local fresh = {} -- ids of new rows of which is known that none exists

local function insert(u) -- id, line, run_at, head, body, and for few: more
  local id, line, run_at, more = u[2], u[3], u[4], u[7]
  local key = row_key(id)
  if fresh[id] then
    fresh[id] = nil
  elseif call('EXISTS', key) == 1 then
    return ALREADY
  end
  if not more then
    local status = run_at > now and SCHEDULED or READY
    call('HSET', key, 's', status, 'l', line, 'r', run_at, 'h', u[5], 'b', u[6])
    zput(P .. 'ids', id, 0)
    enter(id, status, line, run_at)
    return APPLIED
  end
  local unique, ties, flags, edges = more.unique, 0, more.flags or 0, nil
  if unique then
    local other = holder(unique[1])
    if other then
      return REFUSED, other
    end
    ties = HAS_KEY
  end
  local waiting = 0
  if more.deps then
    local absent, failed
    edges, absent, failed = weigh(more.deps)
    if #absent > 0 then
      return REFUSED, nil, absent
    end
    if failed then
      flags = with(flags, STRANDED)
      stranded[#stranded + 1] = id
      zput(P .. 'sn', id, 0)
    end
    for _, edge in pairs(edges) do
      ties = with(ties, HAS_PARENTS)
      if string.sub(edge, 2) == '1' then
        waiting = waiting + 1
      end
    end
  end
  local status = run_at > now and SCHEDULED or READY
  if waiting > 0 or has(flags, STRANDED) then
    status = WAITING
  end
  local args = { 's', status, 'l', line, 'r', run_at, 'h', u[5], 'b', u[6], 'z', 1 }
  for _, part in ipairs(more.fields or {}) do
    args[#args + 1] = part
  end
  for name, value in pairs({ w = waiting, f = flags, g = ties }) do
    if value ~= 0 then
      args[#args + 1] = name
      args[#args + 1] = value
    end
  end
  if more.expires_at then
    args[#args + 1] = 'x'
    args[#args + 1] = more.expires_at
    zput(P .. 'x', id, more.expires_at)
  end
  if more.keep_until then
    args[#args + 1] = 'k'
    args[#args + 1] = more.keep_until
    zput(P .. 'keep', id, more.keep_until)
  end
  call('HSET', key, unpack(args))
  zput(P .. 'ids', id, 0)
  if more.group then
    zput(P .. 'gr:' .. more.group, id, 0)
  end
  enter(id, status, line, run_at)
  if edges then
    tie(id, edges)
  end
  if unique then
    take_key(id, unique)
  end
  if more.events then
    tell(more.events)
  end
  return APPLIED
end

local function put_doc(u) -- kind, key, and a map of the rest
  local kind, name, more = u[2], u[3], u[4]
  local docs, kept = P .. 'dv:' .. kind, nil
  kept = call('HGET', docs, name)
  local rev = 0
  if kept then
    local r, till = string.match(kept, '^(%d+)|[^|]*|([^|]*)|')
    if till == '' or tonumber(till) > now then
      rev = tonumber(r)
    end
  end
  if more.expect and more.expect ~= rev then
    return REFUSED
  end
  if more.value then
    local stamps = digits(more.due_at) .. '|' .. digits(more.expires_at)
    call('HSET', docs, name, (rev + 1) .. '|' .. stamps .. '|' .. more.value)
    zput(P .. 'dk:' .. kind, name, 0)
    zput(P .. 'dd:' .. kind, name, more.due_at or false)
    zput(P .. 'lap', kind .. '\0' .. name, more.expires_at or false)
    topics['docs:' .. kind] = true
  elseif rev > 0 then
    call('HDEL', docs, name)
    zdel(P .. 'dk:' .. kind, name)
    zdel(P .. 'dd:' .. kind, name)
    zdel(P .. 'lap', kind .. '\0' .. name)
    topics['docs:' .. kind] = true
  end
  if more.events then
    tell(more.events)
  end
  local refused = 0
  for _, spawn in ipairs(more.spawn or {}) do
    if insert(spawn) == REFUSED then
      refused = refused + 1
    end
  end
  return APPLIED, nil, nil, refused
end

local function expected(expect, status)
  if type(expect) == 'number' then
    return expect == status
  end
  for _, one in ipairs(expect) do
    if one == status then
      return true
    end
  end
  return false
end

-- A change of fields alone.
local function amend(id, status, line, v, args, change)
  if #args == 0 then
    return
  end
  local key = row_key(id)
  args[#args + 1] = 'z'
  args[#args + 1] = 1
  call('HSET', key, unpack(args))
  if change.p then
    local parts = split(line)
    local moved = parts.both .. ':' .. string.format('%d', change.p)
    call('HSET', key, 'l', moved)
    if status == RUNNING then
      line = moved -- its queue is the same, and it is in no line
    else
      leave(id, status, line)
      line = moved
      enter(id, status, line, change.r or call('HGET', key, 'r'))
    end
    if status == WAITING and has(v[7], STRANDED) then
      zput(P .. 'sn', id, 0)
    end
  elseif (status == READY or status == SCHEDULED) and (change.r or change.x) then
    count(split(line).queue, status, -1)
    enter(id, status, line, change.r or call('HGET', key, 'r'))
  end
  if change.x and status < RUNNING then
    zput(P .. 'x', id, change.x ~= '' and change.x)
  end
  if change.k then
    zput(P .. 'keep', id, change.k ~= '' and change.k)
  end
  topics['tasks'] = true
end

local WATCHED = { r = true, p = true, x = true, k = true }

local function move(u) -- id, expect, to, epoch, claim, patch, value, until, wake, more
  local id, key, to, more = u[2], row_key(u[2]), u[4], u[11]
  local v = call('HMGET', key, 's', 'e', 'c', 'l', 'o', 'm', 'f', 'g')
  local status, line, ties = tonumber(v[1]), v[4], tonumber(v[8]) or 0
  if not status or not expected(u[3], status) then
    return REFUSED
  end
  local epoch = tonumber(v[2]) or 0
  if u[5] and (u[5] ~= epoch or (v[3] or '') == '' or v[3] ~= u[6]) then
    return REFUSED
  end
  if more and more.ask then
    if status == RUNNING then
      if v[6] ~= '1' then
        call('HSET', key, 'm', 1, 'z', 1)
        topics['owner:' .. v[5]] = true
        topics['tasks'] = true
      end
      return ASKED
    elseif status >= FINAL then
      return REFUSED
    end
    to = CANCELLED
  elseif to and to < FINAL and v[6] == '1' and status == RUNNING then
    return REFUSED
  end
  local args, n, change = {}, 0, {}
  local patch = u[7] or {}
  for i = 1, #patch, 2 do
    local name, value = patch[i], patch[i + 1]
    args[n + 1] = name
    args[n + 2] = value
    n = n + 2
    if WATCHED[name] then
      change[name] = value
    end
  end
  if not to then
    amend(id, status, line, v, args, change)
  else
    local unique
    local replay = status >= FINAL and to < FINAL
    if has(ties, HAS_KEY) and (replay or to >= FINAL) then
      unique = head_of(id).unique
      if replay then
        local other = holder(unique[1])
        if other and other ~= id then
          return REFUSED, other
        end
      end
    end
    local run_at = change.r
    if to < FINAL and not run_at then
      run_at = tonumber(call('HGET', key, 'r'))
    end
    if to == READY and run_at > now then
      to = SCHEDULED
    end
    if change.p then
      line = split(line).both .. ':' .. string.format('%d', change.p)
      args[n + 1] = 'l'
      args[n + 2] = line
      n = n + 2
    end
    args[n + 1] = 's'
    args[n + 2] = to
    args[n + 3] = 'z'
    args[n + 4] = 1
    n = n + 4
    if to ~= RUNNING then
      args[n + 1] = 'c'
      args[n + 2] = ''
      n = n + 2
      if v[6] == '1' then
        args[n + 1] = 'm'
        args[n + 2] = ''
        n = n + 2
      end
      if (tonumber(v[7]) or 0) ~= 0 then
        args[n + 1] = 'f'
        args[n + 2] = ''
        n = n + 2
      end
    end
    if to >= FINAL and has(ties, HAS_PARENTS) then
      args[n + 1] = 'w'
      args[n + 2] = ''
      n = n + 2
    end
    call('HSET', key, unpack(args))
    if to ~= RUNNING or status ~= RUNNING then
      leave(id, status, v[4], v[5], v[3])
      enter(id, to, line, run_at)
    end
    if change.k then
      zput(P .. 'keep', id, change.k ~= '' and change.k)
    end
    if to < RUNNING then
      local expires = change.x or call('HGET', key, 'x')
      zput(P .. 'x', id, expires and expires ~= '' and expires)
    elseif status < RUNNING then
      zdel(P .. 'x', id)
    end
    if replay then
      if unique then
        take_key(id, unique)
      end
      call('DEL', P .. 'v:' .. id)
      zdel(P .. 'fade', id)
      if has(ties, HAS_PARENTS) then
        reopen(id)
      end
    elseif to >= FINAL then
      if unique then
        free_key(id, unique, 'start', 'end')
      end
      if has(ties, HAS_PARENTS) then
        close(id, status < FINAL)
      end
      if has(ties, HAS_CHILDREN) then
        release(id, to, UNIT_ROWS)
      end
    end
    if to >= FINAL and to ~= status then
      local reply = u[10] or head_of(id).reply
      if reply then
        topics['inbox:' .. reply] = true
      end
    end
  end
  local refused = 0
  if u[8] then
    local pinned = has(ties, HAS_CHILDREN) and tonumber(call('HGET', key, 'i') or 0) > 0
    if not put_result(id, epoch, u[8], u[9], pinned) then
      refused = refused + 1
    end
  end
  if more then
    if more.events then
      tell(more.events)
    end
    for _, spawn in ipairs(more.spawn or {}) do
      if insert(spawn) == REFUSED then
        refused = refused + 1
      end
    end
    for _, doc in ipairs(more.docs or {}) do
      local outcome, _, _, riders = put_doc(doc)
      refused = refused + (outcome == REFUSED and 1 or riders)
    end
  end
  return APPLIED, nil, nil, refused
end

local function put_far_result(u) -- id, epoch, value, until
  if not META[2] then
    call('HSET', KEYS[1], 'far', 1)
    META[2] = '1'
  end
  local v = call('HMGET', row_key(u[2]), 'i')
  local pinned = (tonumber(v[1]) or 0) > 0
  return put_result(u[2], u[3], u[4], u[5], pinned, true) and APPLIED or REFUSED
end
