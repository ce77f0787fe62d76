-- Numbers to words: medians and spreads, the table and the plot (SVG, drawn here).
local M = {}

function M.median(list)
  local sorted = {}
  for i, v in ipairs(list) do sorted[i] = v end
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  local middle = n % 2 == 1 and sorted[(n + 1) / 2] or (sorted[n / 2] + sorted[n / 2 + 1]) / 2
  return middle, sorted[1], sorted[n]
end

local function digits(v)
  if v >= 100 then return ("%.0f"):format(v) end
  if v >= 10 then return ("%.1f"):format(v) end
  return ("%.2f"):format(v)
end
M.digits = digits

-- "1.23 (1.19-1.40)"
function M.cell(list)
  local middle, low, high = M.median(list or {})
  if not middle then return "-" end
  if #list == 1 then return digits(middle) end
  return ("%s (%s-%s)"):format(digits(middle), digits(low), digits(high))
end

-- columns: { "title", ... }; rows: { { "name", "cell", ... }, ... }
function M.table(title, columns, rows)
  local out, widths = { "", "### " .. title, "" }, {}
  for i, c in ipairs(columns) do widths[i] = #c end
  for _, row in ipairs(rows) do
    for i = 1, #columns do widths[i] = math.max(widths[i], #tostring(row[i] or "-")) end
  end
  local function line(cells, pad)
    local parts = {}
    for i = 1, #columns do
      local text = tostring(cells[i] or "-")
      parts[i] = text .. (pad or " "):rep(widths[i] - #text)
    end
    return "| " .. table.concat(parts, " | ") .. " |"
  end
  out[#out + 1] = line(columns)
  local rule = {}
  for i = 1, #columns do rule[i] = ("-"):rep(widths[i]) end
  out[#out + 1] = line(rule)
  for _, row in ipairs(rows) do out[#out + 1] = line(row) end
  return table.concat(out, "\n") .. "\n"
end

local function escape(text) return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })) end

-- groups: { { title, unit, bars = { { name, median, low, high }, ... } }, ... }: horizontal bars with their spread.
function M.svg(title, groups)
  local out, y, left, width = {}, 58, 170, 470
  local function add(text, ...) out[#out + 1] = text:format(...) end
  for _, g in ipairs(groups) do
    local most = 0
    for _, b in ipairs(g.bars) do most = math.max(most, b[4] or b[2]) end
    add('<text x="12" y="%d" class="g">%s <tspan class="u">%s</tspan></text>', y, escape(g.title), escape(g.unit))
    y = y + 10
    for _, b in ipairs(g.bars) do
      local function at(v) return left + width * v / (most > 0 and most or 1) end
      add('<text x="%d" y="%d" text-anchor="end">%s</text>', left - 8, y + 12, escape(b[1]))
      add('<rect x="%d" y="%d" width="%.1f" height="14" class="%s"/>', left, y + 1, math.max(1, at(b[2]) - left),
          b[1] == "holdfast" and "h" or "r")
      if b[3] then add('<path d="M%.1f %dH%.1f" class="s"/>', at(b[3]), y + 8, at(b[4])) end
      add('<text x="%.1f" y="%d">%s</text>', at(b[4] or b[2]) + 6, y + 12, digits(b[2]))
      y = y + 19
    end
    y = y + 24
  end
  return ([[
<svg xmlns="http://www.w3.org/2000/svg" width="740" height="%d" font-family="sans-serif" font-size="12">
<style>.t{font-size:16px;font-weight:bold}.g{font-size:13px;font-weight:bold}.u{font-weight:normal;fill:#666}.h{fill:#1d6f54}.r{fill:#b9c4cc}.s{stroke:#222;stroke-width:1.5}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="12" y="26" class="t">%s</text>
%s
</svg>
]]):format(y, escape(title), table.concat(out, "\n"))
end

return M
