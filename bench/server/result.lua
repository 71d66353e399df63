-- What the scripts for wrk tell in the end, as a line of JSON; each thread counts `released` and `refused`.

local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
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
