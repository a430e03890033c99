-- Settle and claim in one trip. A: time, sender, units, claim or nil.

-- When memory is full Redis refuses a script at its first write, unless that write cannot add
-- anything. Ends must go through even then, or nothing would ever get smaller.
local frees = false
for _, u in ipairs(A[3]) do
  if u[1] == 1 or u[1] == 6 then
    frees = false
    break
  end
  frees = true
end
if frees then
  call('DEL', P .. '-')
end
local receipt = apply(A[3])
local batch = A[4] and claim(A[4]) or '\192\144\144'
flush()
return '\150' .. receipt .. batch .. pack(publish())
