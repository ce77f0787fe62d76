-- Frames built by hand, independent of our encoder, and a run that must not depend on how its input
-- is cut.
local bit = require "bit"
local ws = require "unit.frame_ws"
local assert = require "luassert"

local M = {}

local MASK = "\x37\xfa\x21\x3d"

local function masked(payload, mask)
  local out = {}
  for i = 1, #payload do
    out[i] = string.char(bit.bxor(payload:byte(i), mask:byte((i - 1) % 4 + 1)))
  end
  return table.concat(out)
end

local function big_endian(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

-- frame { op, payload, fin =, rsv =, mask =, length_form = 7 | 16 | 64, length = }
function M.frame(f)
  local op, payload = f[1], f[2] or ""
  local length = f.length or #payload
  local form = f.length_form or (length < 126 and 7 or length < 65536 and 16 or 64)
  local first = (f.fin == false and 0 or 128) + (f.rsv or 0) * 16 + op
  local mask_bit = f.mask and 128 or 0
  local head = string.char(first)
  if form == 7 then head = head .. string.char(mask_bit + length)
  elseif form == 16 then head = head .. string.char(mask_bit + 126) .. big_endian(length, 2)
  else head = head .. string.char(mask_bit + 127) .. big_endian(length, 8) end
  if f.mask then return head .. f.mask .. masked(payload, f.mask) end
  return head .. payload
end

-- The same frames for each role: a list of frame tables, or strings of raw bytes.
function M.stream(role, frames)
  local out = {}
  for i, f in ipairs(frames) do
    if type(f) == "string" then out[i] = f
    else
      local copy = {}
      for k, v in pairs(f) do copy[k] = v end
      if role == "server" and copy.mask == nil then copy.mask = MASK end
      out[i] = M.frame(copy)
    end
  end
  return table.concat(out)
end

-- Positions worth cutting at: all of them in short inputs.
function M.cuts(len)
  local list = {}
  for at = 1, len - 1 do
    if len <= 600 or at <= 24 or at >= len - 24 or at % math.floor(len / 16) == 0 then
      list[#list + 1] = at
    end
  end
  return list
end

-- The items of `bytes`, which must be the same whole, byte by byte and cut anywhere.
function M.decode(role, bytes, max)
  local whole, how = ws.decode(role, bytes, max)
  local by_byte, how_by_byte = ws.decode(role, bytes, max, { step = 1 })
  assert.same(whole, by_byte)
  assert.equal(how.idle, how_by_byte.idle)
  for _, at in ipairs(M.cuts(#bytes)) do
    local items, how_cut = ws.decode(role, bytes, max, { cut = at })
    assert.same(whole, items, "cut at " .. at)
    assert.equal(how.idle, how_cut.idle)
  end
  return whole, how, how_by_byte
end

-- Both roles must agree.
function M.items(frames, max)
  local client = M.decode("client", M.stream("client", frames), max)
  local server = M.decode("server", M.stream("server", frames), max)
  assert.same(client, server)
  return client
end

return M
