-- Living docs of a kind by key. A: time, sender, kind, prefix, after, due_before or nil, limit.

local kind, prefix, after, due_before, limit = A[3], A[4], A[5], A[6], A[7]
local out = {}

local function shown(name)
  local kept = call('HGET', P .. 'dv:' .. kind, name)
  if not kept then
    return
  end
  local rev, due, till, value = string.match(kept, '^(%d+)|([^|]*)|([^|]*)|(.*)$')
  if till == '' or tonumber(till) > now then
    out[#out + 1] = '\150' .. pack(kind) .. pack(name) .. bin(value) .. int(rev)
      .. (due ~= '' and pack(tonumber(due)) or '\192')
      .. (till ~= '' and pack(tonumber(till)) or '\192')
  end
end

local function has_prefix(name)
  return string.sub(name, 1, #prefix) == prefix
end

local last = nil
if due_before then
  local due = call('ZRANGEBYSCORE', P .. 'dd:' .. kind, '-inf', '(' .. digits(due_before))
  table.sort(due)
  for _, name in ipairs(due) do
    if #out == limit then
      break
    end
    if has_prefix(name) and (after == '' or name > after) then
      shown(name)
    end
  end
else
  local from = '[' .. prefix
  if after ~= '' and after >= prefix then
    from = '(' .. after
  end
  local names_ = call('ZRANGEBYLEX', P .. 'dk:' .. kind, from, '+', 'LIMIT', 0, limit)
  for _, name in ipairs(names_) do
    if not has_prefix(name) then
      last = nil
      break
    end
    shown(name)
    last = name
  end
  if #names_ < limit then
    last = nil
  end
end
-- `last`: where to go on, if some were past their end and there may be more.
return '\146' .. (last and #out < limit and pack(last) or '\192') .. array(out)
