-- For wrk: each connection acquires and releases in turn, over Prefect's API.
-- A release is of whichever lease was granted last, so that no connection ever waits for another one.

local ids = {}
local threads = {}
local path = "/api/v2/concurrency_limits"
local acquire

released, refused = 0, 0

function setup(thread)
    threads[#threads + 1] = thread
end

function init(args) -- the Host is known only now
    wrk.headers["Content-Type"] = "application/json"
    acquire = wrk.format("POST", path .. "/increment-with-lease", nil, '{"slots":1,"names":["a"]}')
end

function request()
    local id = table.remove(ids)
    if id then
        return wrk.format("POST", path .. "/decrement-with-lease", nil, '{"lease_id":"' .. id .. '"}')
    end
    return acquire
end

function response(status, headers, body)
    if status == 200 then
        ids[#ids + 1] = body:match('"lease_id":%s*"([^"]+)"')
    elseif status == 204 then
        released = released + 1
    else
        refused = refused + 1
    end
end

function done(summary, latency)
    local released, refused = 0, 0
    for _, thread in ipairs(threads) do
        released = released + thread:get("released")
        refused = refused + thread:get("refused")
    end
    local errors = summary.errors
    io.write(string.format(
        'result {"pairs": %d, "refused": %d, "broken": %d, "seconds": %f, "p50": %f, "p99": %f}\n',
        released, refused, errors.connect + errors.read + errors.write + errors.timeout,
        summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
