-- For wrk: each connection acquires and releases in turn, over Prefect's API.
-- A release is of whichever lease was granted last, so that no connection ever waits for another one.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "result.lua")

local ids = {}
local path = "/api/v2/concurrency_limits"
local acquire

released, refused = 0, 0

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
