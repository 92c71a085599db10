-- Does what the other scripts do, to keys of its own: whoever may run it may take likes, and whatever keeps likes from being
-- taken (a replica, memory, disk, too few replicas, a missing right) fails it.
-- KEYS   1 stream   2 hash   3 string, all of one shard
-- ARGV   1 lifetime s
-- Result: 1
if #KEYS ~= 3 or #ARGV ~= 1 then
  return redis.error_reply('ERR probe: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call = redis.call
local time = call('TIME')
call('HMGET', KEYS[2], 'v', 'n')
call('HSET', KEYS[2], 'v', time[1], 'n', 0)
call('PERSIST', KEYS[2])
local id = call('XADD', KEYS[1], '*', 'e', '')
call('XDEL', KEYS[1], id)
call('SET', KEYS[3], call('XLEN', KEYS[1]), 'EX', ARGV[1])
call('MGET', KEYS[3])
for i = 1, 3 do call('EXPIRE', KEYS[i], ARGV[1]) end
return 1
