-- What five_world asks of each platform: its peer's options, a connection's keys in the configuration, the faults that its
-- peer plays (control verbs, and seconds until they are healed), how to read its counts, and what none of them may be.
local M = {}

local function fault(text) return ('{"verb":"fault",%s}'):format(text) end

M[#M + 1] = {
  name = "discord",
  options = { "events_every=400", "identify_gap=1000" },
  connection = function (_, port, name)
    return ('token = secret { credential = "%s" }, intents = 513, api = "https://127.0.0.1:%s/api/v10"'):format(name, port)
  end,
  faults = {
    { say = { '{"verb":"abort"}' } },
    { say = { '{"verb":"kick","code":4000}' } },
    { say = { '{"verb":"op7"}' } },
    { say = { '{"verb":"deaf"}' }, lasts = 5 },
    { say = { fault '"upgrade":{"status":503,"times":15}', '{"verb":"abort"}' }, lasts = 4 },
    { say = { fault '"silent_upgrade":5', '{"verb":"abort"}' }, lasts = 3 },
    { say = { fault '"http":{"status":502,"times":10}', '{"verb":"kick","code":4009}' }, lasts = 4 },
    { say = { fault '"no_resumed":true', '{"verb":"abort"}' }, lasts = 4 },
  },
  sent = function (answer, i) return (answer.by_application["discord" .. i] or {})["0/1"] or 0 end,
  tell = function (s)
    return ("%d IDENTIFYs, %d RESUMEs, %d ghosts, %d from a second socket"):format(s.identifies, s.resumes, s.ghosts, s.double)
  end,
  judge = function (s)
    if s.double > 0 then return "a client with two sockets" end
    if s.token_resets > 0 or s.over_rate > 0 or s.refused_identifies > 0 then return "its limits were not kept" end
  end,
}

return M
