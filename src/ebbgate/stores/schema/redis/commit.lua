-- The only program that runs in Redis or Valkey: check the version, then write all rows or none, or tell what is new.
-- No rule lives here: Python decides, these keys keep. All keys of a namespace have one hash tag, hence one slot.
--
-- KEYS  1 head, 2 log, 3 news, 4 turn, 5... one hash of records for each kind
-- ARGV  1, 2 number and tag of the version that is built on; 3 how many commits are told at most;
--       4 tag, 5 instant, 6 token, 7 arrival: the new version and its head; all missing: only check; an empty tag:
--       only check, and give the turn back that 5 may have
--       8 how many commits the log keeps; 9 who commits; 10 for how many milliseconds it wants the turn if it lost
--       this race, 0 not at all; 11 how many rows; 12 the kinds, ids and flags of the rows as JSON;
--       then for each row: which key, 1 to keep or 0 to remove, its id, its body
-- Returns {1, seconds, microseconds} when the version is the newest (and all is written);
--         {0, seconds, microseconds, whether the version is known, entries of the log that follow it} when not;
--         {2, seconds, microseconds} when it is somebody else's turn to commit: ask again

local head, log, news, turn = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local base, base_tag = ARGV[1], ARGV[2]
local now = redis.call('TIME')
local newest = redis.call('HMGET', head, 'version', 'tag', 'instant_us', 'token', 'arrival')
local number = newest[1] or '0'

if number ~= base or (newest[2] or '') ~= base_tag then
    local known = base == '0' and base_tag == ''
    if base ~= '0' then
        local entry = redis.call('XRANGE', log, base .. '-0', base .. '-0')[1]
        known = entry and entry[2][2] == base_tag
    end
    if ARGV[10] and ARGV[10] ~= '0' then
        redis.pcall('SET', turn, ARGV[9], 'NX', 'PX', ARGV[10])
    end
    if not known then
        return {0, now[1], now[2], 0, {}}
    end
    return {0, now[1], now[2], 1, redis.call('XRANGE', log, '(' .. base .. '-0', '+', 'COUNT', ARGV[3])}
end
if not ARGV[4] or ARGV[4] == '' then
    if ARGV[5] and redis.call('GET', turn) == ARGV[5] then
        redis.call('DEL', turn)
    end
    return {1, now[1], now[2]}
end

local holder = redis.call('GET', turn)
if holder and holder ~= ARGV[9] then
    return {2, now[1], now[2]}
end

local made = string.format('%.0f', tonumber(base) + 1)
local bodies = {}
local at = 12
for row = 1, tonumber(ARGV[11]) do
    bodies[row] = ARGV[at + 4] == '' and 'null' or ARGV[at + 4]
    at = at + 4
end
-- The first write is one that a full server refuses, so that it refuses all of them.
redis.call('XADD', log, made .. '-0', 'tag', ARGV[4], 'instant_us', ARGV[5], 'token', ARGV[6], 'arrival', ARGV[7],
    'rows', '[' .. ARGV[12] .. ',[' .. table.concat(bodies, ',') .. ']]')
redis.call('HSET', head, 'format', '1', 'version', made, 'tag', ARGV[4], 'instant_us', ARGV[5], 'token', ARGV[6],
    'arrival', ARGV[7])
at = 12
for _ = 1, tonumber(ARGV[11]) do
    local records = KEYS[4 + tonumber(ARGV[at + 1])]
    if ARGV[at + 2] == '1' then
        redis.call('HSET', records, ARGV[at + 3], ARGV[at + 4])
    else
        redis.call('HDEL', records, ARGV[at + 3])
    end
    at = at + 4
end
if tonumber(made) % 64 == 0 then
    redis.call('XTRIM', log, 'MAXLEN', tonumber(ARGV[8]) + 1)
end
if holder then
    redis.call('DEL', turn)
end
redis.call('XADD', news, 'MAXLEN', 1, made .. '-0', 'tag', ARGV[4])
return {1, now[1], now[2]}
