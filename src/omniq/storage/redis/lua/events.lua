-- Events in the order they came. A: time, sender, task or nil, after or nil, newest_first, count.
-- Gives number and bytes of each, those past their stamp with a number alone.

local task, after, newest, size = A[3], A[4], A[5], A[6]
local out = {}

local function give(entry)
  local number = tonumber(string.match(entry[1], '^%d+'))
  local keep = tonumber(entry[2][6])
  local gone = keep and keep <= now
  out[#out + 1] = '\146' .. pack(number) .. (gone and '\192' or bin(entry[2][8]))
end

if task then
  local numbers = {}
  for _, number in ipairs(call('HVALS', P .. 'y:' .. task)) do
    number = tonumber(number)
    if not after or (newest and number < after) or (not newest and number > after) then
      numbers[#numbers + 1] = number
    end
  end
  table.sort(numbers, function(a, b)
    if newest then
      return a > b
    end
    return a < b
  end)
  for i = 1, math.min(#numbers, size) do
    local id = string.format('%d-0', numbers[i])
    local entry = call('XRANGE', P .. 'ev', id, id)[1]
    if entry then
      give(entry)
    end
  end
  return '\146' .. (#numbers > size and '\195' or '\194') .. array(out)
end
local entries
if newest then
  local from = after and '(' .. string.format('%d-0', after) or '+'
  entries = call('XREVRANGE', P .. 'ev', from, '-', 'COUNT', size)
else
  local from = after and '(' .. string.format('%d-0', after) or '-'
  entries = call('XRANGE', P .. 'ev', from, '+', 'COUNT', size)
end
for _, entry in ipairs(entries) do
  give(entry)
end
return '\146' .. (#entries == size and '\195' or '\194') .. array(out)
