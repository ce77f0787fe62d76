-- The server side of chirp, written from its documentation.
--
-- Options: token (nil takes any), keepalive (seconds, 20), events_every (ms, 0: none)
-- Controls: stats, event, kick { code }, mute { off } (pings stay unanswered), refuse { times } (tickets are refused),
-- heal (ends the last two), prove (what `holdfast prove` may do with it)
local state = { tickets = {}, open = {}, made = 0, refuse = 0, mute = false,
                stats = { tickets = 0, auths = 0, pings = 0, most_silent = 0 } }

local function each(fn)
  local list = {}
  for _, ws in pairs(state.open) do list[#list + 1] = ws end
  table.sort(list, function (a, b) return a.id < b.id end)
  for _, ws in ipairs(list) do fn(ws) end
  return #list
end

local function event()
  state.made = state.made + 1
  return each(function (ws)
    if ws.session then ws:send { type = "event", n = state.made, text = "chirp " .. state.made } end
  end)
end

local function keep_making(p)
  p:after(p.options.events_every, function ()
    event()
    keep_making(p)
  end)
end

local control = {}
function control.stats() return state.stats end
function control.event() return event() end
function control.kick(_, a) return each(function (ws) ws:close(a.code or 1001, "kicked") end) end
function control.mute(_, a) state.mute = not a.off end
function control.refuse(_, a) state.refuse = a.times or 1 end
function control.heal() state.mute, state.refuse = false, 0 end

function control.prove()
  return { speak = { verb = "event" }, faults = {
    { at = { "settled", "greeting" }, verb = "kick", with = { code = 1011 }, say = "the server closes with 1011" },
    { at = { "settled" }, verb = "kick", with = { code = 4403 }, say = "the server bans the bot", fatal = true },
    { at = { "down" }, verb = "refuse", with = { times = 2 }, say = "two tickets are refused" },
    { at = { "settled" }, verb = "mute", with = {}, say = "pings are not answered any more", held = true },
  } }
end

return {
  start = function (p, options)
    if (options.events_every or 0) > 0 then keep_making(p) end
  end,

  http = function (p, request)
    if request.path ~= "/v1/ticket" or request.method ~= "POST" then return p:respond(request, 404) end
    local token = (request.headers.authorization or ""):match "^Bearer (.+)$"
    if not token or p.options.token and token ~= p.options.token then return p:respond(request, 401) end
    state.stats.tickets = state.stats.tickets + 1
    local ticket = "t" .. state.stats.tickets
    state.tickets[ticket] = true
    p:respond(request, 200, { json = { address = p.base_url:gsub("^http", "ws") .. "/socket", ticket = ticket } })
  end,

  upgrade = function () return true end,

  opened = function (p, ws)
    state.open[ws.id] = ws
    ws:send { type = "welcome", keepalive = p.options.keepalive or 20 }
    ws.pinged = p:now()
    local function watch()
      local silent = p:now() - ws.pinged
      state.stats.most_silent = math.max(state.stats.most_silent, silent)
      if silent > 2000 * (p.options.keepalive or 20) then return ws:close(4408, "no ping") end
      ws.watch = p:after(1000, watch)
    end
    watch()
  end,

  message = function (p, ws, data)
    local frame = p:decode(data)
    if type(frame) ~= "table" then return ws:close(4400, "no JSON") end
    if frame.type == "auth" then
      state.stats.auths = state.stats.auths + 1
      local good = state.tickets[frame.ticket or ""] and state.refuse == 0
      state.tickets[frame.ticket or ""] = nil  -- a ticket is good for one socket
      if not good then
        state.refuse = math.max(state.refuse - 1, 0)
        return ws:close(4401, "bad ticket")
      end
      ws.session = "s" .. ws.id
      ws:send { type = "ok", session = ws.session }
    elseif not ws.session then
      ws:close(4401, "not authenticated")
    elseif frame.type == "ping" then
      state.stats.pings = state.stats.pings + 1
      ws.pinged = p:now()
      if not state.mute then ws:send { type = "pong" } end
    end
  end,

  closed = function (p, ws)
    state.open[ws.id] = nil
    p:cancel(ws.watch)
  end,

  control = control,
}
