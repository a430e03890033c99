-- A heartbeat. A: time, sender, owner, lease, {id, epoch, claim, progress} of what it holds.

local owner, lease = A[3], A[4]
local lost, cancelled, mine = {}, {}, {}
for _, task in ipairs(A[5]) do
  local id, progress = task[1], task[4]
  local key = row_key(id)
  local v = call('HMGET', key, 's', 'o', 'e', 'c', 'm', 'progress')
  if v[1] ~= '50' or v[2] ~= owner or tonumber(v[3]) ~= task[2] or v[4] ~= task[3] then
    lost[#lost + 1] = id
  else
    mine[id] = true
    if v[5] == '1' then
      cancelled[#cancelled + 1] = id
    end
    if progress and progress ~= v[6] then
      call('HSET', key, 'progress', progress, 'z', 1)
      topics['tasks'] = true
    end
  end
end
local unknown = {}
local rows = running_of(owner, 1e9)
for _, row in ipairs(rows) do
  if not mine[row.id] then
    unknown[#unknown + 1] = { row.id, tonumber(row.epoch), row.claim }
  end
end
if #rows > 0 then
  call('ZADD', P .. 'leases', now + lease, owner)
end
flush()
return pack({ lost, cancelled, unknown, publish() })
