-- What five_world asks of each platform: its peer's options, a connection's keys in the configuration, the faults that its
-- peer plays (control verbs, and seconds until they are healed), how to read its counts, and what none of them may be.
-- each: one peer for each connection, where a peer is one application; disorder: what was not acknowledged comes
-- again later, so a hole may be filled after what follows it.
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

M[#M + 1] = {
  name = "slack",
  each = true, disorder = true,
  -- As long as Slack's own (5 min), in smaller steps: a hole is filled soon after its connection is up again.
  options = { "events_every=400", "retries=[500,5000,10000,20000,30000,40000,50000,70000,80000]" },
  token = function (i, secret) return ("xapp-1-A%d-%s"):format(i, secret) end,
  connection = function (_, port, name)
    return ('app_token = secret { credential = "%s" }, api = "https://127.0.0.1:%s/api"'):format(name, port)
  end,
  faults = {
    { say = { '{"verb":"abort"}' } },
    { say = { '{"verb":"close","code":1000}' } },
    { say = { '{"verb":"disconnect","reason":"refresh_requested"}' } },
    { say = { '{"verb":"disconnect","reason":"warning"}' } },
    { say = { fault '"open":{"status":500,"times":3}', '{"verb":"abort"}' }, lasts = 5 },
    { say = { fault '"open_error":{"error":"internal_error","times":2}', '{"verb":"close"}' }, lasts = 5 },
    { say = { fault '"upgrade":{"status":503,"times":2}', '{"verb":"abort"}' }, lasts = 4 },
    { say = { fault '"silent_hello":1', '{"verb":"abort"}' }, lasts = 3 },
    { say = { fault '"too_many":1', '{"verb":"abort"}' }, lasts = 3 },
  },
  sent = function (_, _, stats) return stats.events end,
  tell = function (s)
    return ("%d opens, at most %d sockets of an app, %d events again, %d given up"):format(s.opens, s.most_open, s.redelivered, s.given_up)
  end,
  -- Two while one takes the other's place.
  judge = function (s)
    if s.most_open > 2 then return ("%d sockets of one app"):format(s.most_open) end
    if s.bad_tickets > 0 or s.unknown_acks > 0 or s.bad_texts > 0 then return "it was spoken to wrongly" end
  end,
}

M[#M + 1] = {
  name = "feishu",
  each = true, disorder = true,
  options = { "events_every=400", "push_again=[3000,10000,20000,40000,80000,120000,160000,200000,240000,280000,320000]" },
  connection = function (i, port, name)
    return ('app_id = "cli_%016x", app_secret = secret { credential = "%s" }, domain = "https://127.0.0.1:%s"'):format(i, name, port)
  end,
  faults = {
    { say = { '{"verb":"abort"}' } },
    { say = { '{"verb":"bye"}' } },
    { say = { fault '"http":{"status":502,"times":3}', '{"verb":"bye"}' }, lasts = 5 },
    { say = { fault '"code":{"code":1000040343,"msg":"internal error","times":2}', '{"verb":"abort"}' }, lasts = 5 },
    { say = { fault '"upgrade":{"status":503,"times":2}', '{"verb":"abort"}' }, lasts = 4 },
    { say = { fault '"silent":1', '{"verb":"abort"}' }, lasts = 3 },
    { say = { fault '"silent_upgrade":1', '{"verb":"bye"}' }, lasts = 3 },
  },
  sent = function (_, _, stats) return stats.events end,
  tell = function (s)
    return ("%d calls of the endpoint, at most %d sockets of an app, %d events pushed again"):format(s.http, s.most_open, s.pushed_again)
  end,
  judge = function (s)
    if s.most_open > 2 then return ("%d sockets of one app"):format(s.most_open) end
    if s.acks_wrong > 0 or s.acks_unknown > 0 or s.storms > 0 or s.wrong > 0 then return "it was spoken to wrongly" end
  end,
}

M[#M + 1] = {
  name = "qqbot",
  -- /gateway may be called twice a minute, of which a fault that drops the address costs one.
  options = { "events_every=400", "identify_gap=1000" },
  connection = function (i, port, name)
    return ('app_id = "qqbot%d", client_secret = secret { credential = "%s" }, token_url = "https://127.0.0.1:%s/app/getAppAccessToken", api = "https://127.0.0.1:%s"')
      :format(i, name, port, port)
  end,
  faults = {
    { say = { '{"verb":"abort"}' } },
    { say = { '{"verb":"kick","code":4009}' } },
    { say = { '{"verb":"op7"}' } },
    { say = { '{"verb":"deaf"}' }, lasts = 5 },
    { say = { fault '"no_resumed":true', '{"verb":"abort"}' }, lasts = 4 },
    { say = { fault '"silent_hello":3', '{"verb":"kick","code":4009}' }, lasts = 3 },
    { say = { '{"verb":"kick","code":4008}' } },
  },
  sent = function (answer, i) return (answer.by_application["qqbot" .. i] or {})["0/1"] or 0 end,
  tell = function (s)
    return ("%d IDENTIFYs, %d RESUMEs, %d calls of /gateway, %d ghosts, %d from a second socket"):format(s.identifies, s.resumes, s.gateway_calls,
      s.ghosts, s.double)
  end,
  judge = function (s)
    if s.double > 0 then return "a client with two sockets" end
    if s.over_rate > 0 or s.refused_identifies > 0 or s.over_total > 0 or s.bad_beats > 0 then return "its limits were not kept" end
  end,
}

M[#M + 1] = {
  name = "wukongim",
  options = { "events_every=400" },
  token = function (i, secret) return ("bf_%s_%016d"):format(secret, i) end, -- the peer names a bot by the last 16
  connection = function (_, port, name)
    return ('bot_token = secret { credential = "%s" }, api = "https://127.0.0.1:%s"'):format(name, port)
  end,
  faults = {
    { say = { '{"verb":"drop"}' } },
    { say = { '{"verb":"close"}' } },
    { say = { '{"verb":"update_tokens"}' } },
    { say = { '{"verb":"deaf"}' }, lasts = 5 },
    { say = { fault '"upgrade":{"status":503,"times":10}', '{"verb":"drop"}' }, lasts = 4 },
    { say = { fault '"http":{"status":429,"headers":{"Retry-After":"3"},"times":20}', '{"verb":"drop"}' }, lasts = 6 },
    { say = { fault '"split":3', '{"verb":"drop"}' }, lasts = 6 },
    { say = { fault '"stall":3', '{"verb":"drop"}' }, lasts = 3 },
  },
  sent = function (answer, i) return answer[("bot_%016d"):format(i)] or 0 end,
  tell = function (s)
    return ("%d registers that kicked %d sessions, %d CONNECTs, %d acknowledgements in %d messages, %d messages again"):format(s.registers,
      s.register_kicked, s.connects, s.acks, s.ack_messages, s.resent)
  end,
  -- A register kicks whatever session there is: with ours closed there is none.
  judge = function (s)
    if s.register_kicked > 0 then return "its own register kicked a session" end
    if s.bad_packets > 0 or s.not_alone > 0 or s.early > 0 or s.acks_unknown > 0 then return "it was spoken to wrongly" end
  end,
}

return M
