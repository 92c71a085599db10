-- Raises the clock of a shard: what is accepted afterwards has a higher version.
-- KEYS   1 clock hash (v last version)
-- ARGV   1 at least
-- Result: the clock as it was
if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR raise_clock: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local v, least = last_version(redis.call('HGET', KEYS[1], 'v')), tonumber(ARGV[1])
if least > v then redis.call('HSET', KEYS[1], 'v', string.format('%d', least)) end
return v
