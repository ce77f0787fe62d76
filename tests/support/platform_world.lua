-- What the simulated worlds of the platforms share: one platform, one connection to it, and readers of what happened.
-- tests/support/<platform>_world.lua tells `of` what is particular and adds what only its specs ask for.
local sim = require "holdfast.sim"
local lists = require "lists"

local platform_world = {}

local function with(defaults, more)
  for k, v in pairs(more or {}) do defaults[k] = v end
  return defaults
end

---is: policy; host and names of the peer; peer(), the defaults of the peer's options; connection(s, p), the settings of
---a connection; settled, the time after "up" in which it settles; kind, the key that names a frame's kind;
---number(event), the made-up number that an event of a consumer carries, or nil.
function platform_world.of(is)
  local world = setmetatable({}, { __index = lists }) -- their readers as well

  ---options: seed, peer (of lua/peers), names (more hosts that lead to it), settings (of the connection),
  ---no_connection, sim
  function world.new(options)
    options = options or {}
    local s = sim.new(with({ seed = options.seed or tonumber(os.getenv "HOLDFAST_SEED" or "1") }, options.sim))
    local p = s:peer(is.policy, { host = is.host, names = options.names or is.names,
                                  options = with(is.peer and is.peer() or {}, options.peer) })
    if not options.no_connection then world.connect(s, p, "a", options.settings) end
    return s, p
  end

  function world.connect(s, p, name, settings)
    return s:connection(name, with(with({ policy = is.policy }, is.connection(s, p)), settings))
  end

  ---Up and settled.
  function world.settled(options)
    local s, p = world.new(options)
    s:up("a", "1m")
    s:advance(is.settled or "70s")
    assert(s:view("a").settled, "did not settle")
    return s, p
  end

  ---Up again after it was up: on another link.
  function world.back(s, name, time)
    local generation = s:view(name).generation
    s:run_until(function ()
      local v = s:view(name)
      return v.state == "up" and v.generation > generation
    end, time or "2m", name .. " is back")
  end

  ---Entries of the peer's log of one kind since `from`.
  function world.logged(p, kind, from)
    local out = {}
    for _, e in ipairs(p:control "log") do
      if e.kind == kind and e.at >= (from or 0) then out[#out + 1] = e end
    end
    return out
  end

  ---Their instants.
  function world.instants(p, kind, from)
    local out = {}
    for i, e in ipairs(world.logged(p, kind, from)) do out[i] = e.at end
    return out
  end

  ---How often the peer saw a session begin, and one resumed, since `from`.
  function world.counts(p, from)
    return { identify = #world.logged(p, "identify", from), resume = #world.logged(p, "resume", from) }
  end

  ---Frames on the wire of one direction as { at, generation, frame, data }, of one kind if given.
  function world.frames(s, name, direction, kind)
    local out = {}
    for _, m in ipairs(s:wire(name, direction)) do
      local frame = m.text and sim.decode(m.data)
      if type(frame) == "table" and (not kind or frame[is.kind] == kind) then
        out[#out + 1] = { at = m.at, generation = m.generation, frame = frame, data = m.data }
      end
    end
    return out
  end

  ---Numbers of the made-up messages that a consumer got, in order.
  function world.numbers(consumer)
    local out = {}
    for _, e in ipairs(consumer:events()) do out[#out + 1] = is.number(e) end
    return out
  end

  ---Raises when the numbers are not exactly 1..n, of `count` where given; returns n.
  function world.assert_whole(consumer, count)
    local numbers = world.numbers(consumer)
    for i, n in ipairs(numbers) do
      if n ~= i then error(("message %d came where %d was due (of %d)"):format(n, i, #numbers), 2) end
    end
    if count and #numbers ~= count then error(("%d messages came, %d were made"):format(#numbers, count), 2) end
    return #numbers
  end

  return world
end

return platform_world
