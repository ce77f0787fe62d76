-- The table of what public suites try, on the codec alone: in both roles, whole, byte by byte and cut anywhere.
local cases = require "frame_ws_cases"
local rfc6455 = require "rfc6455_cases"

for _, group in ipairs(rfc6455.groups) do
  describe(group.name, function ()
    for _, case in ipairs(group.cases) do
      it(case[1], function ()
        local got
        if case.client then got = (cases.decode("client", cases.stream("client", case[2]), case.max))
        else got = cases.items(case[2], case.max) end
        assert.same(case[3], got)
      end)
    end
  end)
end
