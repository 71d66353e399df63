-- Puts parts of history behind the blocks that they belong to, and notes how large each block has become.
-- All keys of a namespace have one hash tag, hence one slot.
--
-- KEYS  1 spans, 2 sizes, 3... one hash a block, by limit
-- ARGV  1 writer, 2 its span; then for each part: which key, the name of its block, the limit, the text

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for at = 3, #ARGV, 4 do
    local block, limit, text = KEYS[tonumber(ARGV[at])], ARGV[at + 2], ARGV[at + 3]
    local known = redis.call('HGET', block, limit)
    redis.call('HSET', block, limit, (known or '') .. text)
    redis.call('HINCRBY', KEYS[2], ARGV[at + 1], #text)
end
