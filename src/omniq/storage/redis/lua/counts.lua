-- Rows by queue and status, and those past their stamp, to be taken off. A: time, sender, offset.

local PAGE = 2000
local kept = {}
if A[3] == 0 then
  local all = call('HGETALL', P .. 'n')
  for i = 1, #all, 2 do
    kept[#kept + 1] = { all[i], tonumber(all[i + 1]) }
  end
end
local past = call('ZRANGEBYSCORE', P .. 'keep', '-inf', now, 'LIMIT', A[3], PAGE)
local off = {}
for _, id in ipairs(past) do
  local v = call('HMGET', row_key(id), 's', 'k', 'i', 'l')
  if v[1] and not visible(v[2], v[3]) then
    local name = split(v[4]).queue .. ':' .. v[1]
    off[name] = (off[name] or 0) - 1
  end
end
for name, n in pairs(off) do
  kept[#kept + 1] = { name, n }
end
return pack({ kept, #past == PAGE })
