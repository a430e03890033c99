-- Rows by id, in the order asked for. A: time, sender, ids.

local out = {}
for _, id in ipairs(A[3]) do
  local v = call('HMGET', row_key(id), 's', 'k', 'i')
  if v[1] and visible(v[2], v[3]) then
    out[#out + 1] = read_row(id, true)
  end
end
return array(out)
