-- For wrk: each connection acquires and releases in turn; the server chooses the ids.
-- A release is of whichever lease was granted last, so that no connection ever waits for another one.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "result.lua")

local ids = {}
local acquire

granted, released, refused = 0, 0, 0

function init(args) -- the Host is known only now
    wrk.headers["Content-Type"] = "application/json"
    acquire = wrk.format("POST", "/v1/leases", nil,
        '{"limits":[{"name":"a","slots":1}],"lease_duration_seconds":300}')
end

function request()
    local id = table.remove(ids)
    if id then
        return wrk.format("DELETE", "/v1/leases/" .. id)
    end
    return acquire
end

function response(status, headers, body)
    if status == 201 then
        granted = granted + 1
        ids[#ids + 1] = body:match('"id":%s*"([^"]+)"')
    elseif status == 200 or status == 204 then
        released = released + 1
    else
        refused = refused + 1
    end
end
