-- WKProto's vectors, and both ends set up as the vectors have them.
local json = require "dkjson"
local wkproto = require "unit.frame_wkproto"

local M = {}

function M.bytes(hex)
  return (hex:gsub("%x%x", function (h) return string.char(tonumber(h, 16)) end))
end

function M.hex(text)
  return (text:gsub(".", function (c) return ("%02x"):format(c:byte()) end))
end

function M.base64(text)
  local set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local out = text:gsub("..?.?", function (part)
    local a, b, c = part:byte(1, 3)
    local word = a * 65536 + (b or 0) * 256 + (c or 0)
    local four = ""
    for shift = 18, 0, -6 do
      local at = bit.band(bit.rshift(word, shift), 63) + 1
      four = four .. set:sub(at, at)
    end
    return four:sub(1, #part + 1) .. ("="):rep(3 - #part)
  end)
  return out
end

local file = assert(io.open "tests/unit/frame_wkproto/vectors.json")
M.vectors = assert(json.decode(file:read "*a", 1, json.null))
file:close()

M.packets = {}
for _, packet in ipairs(M.vectors.packets) do M.packets[packet.name] = packet end

local inputs = M.vectors.inputs

function M.encode(value) return json.encode(value) end
function M.decode(text) return assert(json.decode(text, 1, json.null)) end

function M.connect_json(version)
  return json.encode {
    packet = "connect", version = version, device_flag = 0, device_id = inputs.device_id, uid = inputs.uid,
    token = inputs.token, client_timestamp = inputs.client_timestamp_ms,
  }
end

function M.client(seed) return wkproto.open("client", { seed = seed or inputs.client_seed_ascii }) end

function M.server(options)
  options = options or {}
  return wkproto.open("server", { seed = inputs.server_seed_ascii, salt = inputs.salt, latest = options.latest,
                                  plain = options.plain })
end

-- The JSON of the next packet as a table, and its bytes; nothing when there is none; raises when it is bad.
function M.next(at)
  local kind, text, raw = at:next()
  if kind == "more" then return nil end
  assert(kind == "packet", text)
  return M.decode(text), raw, text
end

-- A client that got this CONNACK (hex).
function M.connected(version, connack)
  local client = M.client()
  assert(client:encode(M.connect_json(version)))
  client:feed(M.bytes(connack or M.packets[version >= 4 and "connack_v" .. version .. "_success" or "connack_v3_success"].hex))
  assert(M.next(client).packet == "connack")
  return client
end

-- Both ends after CONNACK, with their own keys.
function M.pair(version, options)
  local client, server = M.client(), M.server(options)
  server:feed(assert(client:encode(M.connect_json(version))))
  assert(M.next(server).packet == "connect")
  local connack = assert(server:encode(json.encode { packet = "connack", reason_code = 1, time_diff = 37, node_id = "1001" }))
  client:feed(connack)
  assert(M.next(client).reason_code == 1)
  return client, server, connack
end

return M
