-- Results by id, in the order asked for. A: time, sender, ids.

local out = {}
for _, id in ipairs(A[3]) do
  local kept = call('GET', P .. 'v:' .. id)
  if kept then
    local epoch, till, value = string.match(kept, '^(%d+)|([^|]*)|(.*)$')
    local shown = till == '' or tonumber(till) > now
      or (tonumber(call('HGET', row_key(id), 'i') or 0)) > 0
    if shown then
      out[#out + 1] = '\148' .. pack(id) .. int(epoch) .. bin(value)
        .. (till ~= '' and pack(tonumber(till)) or '\192')
    end
  end
end
return array(out)
