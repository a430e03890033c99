-- The usual course of things, many rows at once: new rows and ended runs without ties.

-- Many rows that are nothing but new, in one flat list: id, line, run_at, head, body.
local function insert_plain(u, outcomes)
  local f, at = u[2], #outcomes
  for k = 1, #f, 5 do
    local id, line, run_at = f[k], f[k + 1], f[k + 2]
    local key = row_key(id)
    at = at + 1
    if not fresh[id] and call('EXISTS', key) == 1 then
      outcomes[at] = ALREADY
    else
      fresh[id] = nil
      local status = run_at > now and SCHEDULED or READY
      local due = digits(run_at)
      call('HSET', key, 's', digits(status), 'l', line, 'r', due, 'h', f[k + 3], 'b', f[k + 4])
      zadd(P .. 'ids', id, '0')
      if status == READY then
        local parts = split(line)
        zadd(P .. 'r:' .. line, id, due)
        put_priority(parts)
        count(parts.queue, READY, 1)
        woken[parts.queue] = true
        topics['queue:' .. parts.queue] = true
      else
        enter(id, status, line, run_at)
      end
      outcomes[at] = APPLIED
    end
  end
end

-- Whether a claim still has a row, and whether the row has ties or flags. One without `z` has
-- neither, and it is in its first epoch.
local function state_of(key, v, epoch, claim)
  if v[1] ~= claim then
    return false
  elseif not v[2] then
    return epoch == 1, false
  end
  local w = call('HMGET', key, 'e', 'm', 'f', 'g')
  return tonumber(w[1]) == epoch, w[2] or w[3] or w[4]
end

-- Many ends of runs of one claim that changed the same fields, in one flat list:
-- id, the fields' values, result, until ('' where there is none).
local function end_plain(u, outcomes)
  local to, wake, epoch, claim, fields, with_result, f = u[2], u[3], u[4], u[5], u[6], u[7], u[8]
  local n, at, keep, ended_ = #fields, #outcomes, P .. 'keep', 0
  local step = 1 + n + (with_result and 2 or 0)
  local args, owner = { '', 's', digits(to), 'c', '' }, nil
  local index, queues = INDEXED[to] and P .. 'st:' .. to, {}
  for k = 1, #f, step do
    local id = f[k]
    local key = row_key(id)
    local v = call('HMGET', key, 'c', 'z', 'l')
    at = at + 1
    local held, tied = state_of(key, v, epoch, claim)
    if not held then
      outcomes[at] = REFUSED
    elseif tied then -- the careful way
      local patch = {}
      for i = 1, n do
        patch[2 * i - 1], patch[2 * i] = fields[i], f[k + i]
      end
      local value, till = f[k + 1 + n], f[k + 2 + n]
      local unit = { 2, id, RUNNING, to, epoch, claim, patch, nil, nil, wake }
      if with_result then
        unit[8], unit[9] = value, till ~= '' and till or nil
      end
      local outcome, _, _, refused = move(unit)
      outcomes[at] = outcome
      if refused and refused > 0 then
        outcomes.riders = outcomes.riders or {}
        table.insert(outcomes.riders, { at - 1, refused })
      end
    else
      args[1] = key
      for i = 1, n do
        local value = f[k + i]
        if type(value) == 'number' then
          value = digits(value)
        end
        args[4 + 2 * i], args[5 + 2 * i] = fields[i], value
        if fields[i] == 'k' and value ~= '' then
          zadd(keep, id, value)
        end
      end
      call('HSET', unpack(args))
      local line = v[3]
      owner = owner or call('HGET', key, 'o')
      queues[line] = (queues[line] or 0) + 1
      if index then
        zadd(index, id, '0')
      end
      outcomes[at] = APPLIED
      if with_result then
        local till = f[k + 2 + n]
        local kept = put_result(id, epoch, f[k + 1 + n], till ~= '' and till or nil)
        if not kept then
          outcomes.riders = outcomes.riders or {}
          table.insert(outcomes.riders, { at - 1, 1 })
        end
      end
      ended_ = ended_ + 1
    end
  end
  for line, m in pairs(queues) do
    local queue = split(line).queue
    count(queue, RUNNING, -m)
    count(queue, to, m)
  end
  if ended_ > 0 then
    ran(owner, claim, ended_)
  end
  if ended_ > 0 and wake then
    topics['inbox:' .. wake] = true
  end
end
