-- From now on repairs of this shard with a smaller fencing token are refused.
-- KEYS   1 clock hash (f largest token of a repairer)
-- ARGV   1 token
-- Result: the largest token
if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR fence_repairs: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local token = math.max(tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'f')) or 0)
-- Also on a full server: see acquire_lease.lua.
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[1], 'f', token)
return token
