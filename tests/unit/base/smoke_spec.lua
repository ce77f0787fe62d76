describe("runner", function () it("runs", function () assert.equal(2, 1 + 1) end) end)
