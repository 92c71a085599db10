-- Caches counters of one shard that are not cached; what is cached is left alone.
-- What was loaded may be old already, so it lives briefly until a settle confirms it.
-- KEYS   1 clock hash   then counters
-- ARGV   1 ttl s of a filled counter   2 that of one which the database does not know   per counter: count, revision, last version
-- Result: number of counters filled
if #KEYS < 1 or #ARGV ~= 2 + 3 * (#KEYS - 1) then
  return redis.error_reply('ERR fill_counts: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local filled, highest = 0, 0
for i = 2, #KEYS do
  local a = 2 + 3 * (i - 2)
  highest = math.max(highest, tonumber(ARGV[a + 3]))
  if not number(read('HGET', KEYS[i], 'n')) then
    redis.call('HSET', KEYS[i], 'n', ARGV[a + 1], 'p', 0, 'v', 0, 'dn', ARGV[a + 1], 'dr', ARGV[a + 2])
    redis.call('EXPIRE', KEYS[i], ARGV[tonumber(ARGV[a + 2]) > 0 and 1 or 2])
    filled = filled + 1
  end
end
-- The shard clock must not fall behind what the database already holds.
local v = last_version(redis.call('HGET', KEYS[1], 'v'))
if highest > v then redis.call('HSET', KEYS[1], 'v', highest) end
return filled
