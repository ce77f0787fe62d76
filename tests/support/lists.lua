-- Readers of lists, most of them of instants in ms.
local lists = {}

---The last of a list.
function lists.last(list) return list[#list] end

---Times between the instants of a sorted list.
function lists.gaps(instants)
  local out = {}
  for i = 2, #instants do out[#out + 1] = instants[i] - instants[i - 1] end
  return out
end

---The least time between two instants of a sorted list.
function lists.least_gap(instants)
  local least = math.huge
  for _, gap in ipairs(lists.gaps(instants)) do least = math.min(least, gap) end
  return least
end

---The most of these instants in any window of so many ms.
function lists.most_in(instants, ms)
  table.sort(instants)
  local most, first = 0, 1
  for i = 1, #instants do
    while instants[i] - instants[first] >= ms do first = first + 1 end
    most = math.max(most, i - first + 1)
  end
  return most
end

return lists
