-- Records a number of shards, unless a later one is recorded.
-- KEYS   1 meta hash
-- ARGV   1 number of shards, `64` or `64@1`   2 its epoch
-- Result: 1 if it is recorded now
if #KEYS ~= 1 or #ARGV ~= 2 then
  return redis.error_reply('ERR record_shards: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local held = redis.call('HGET', KEYS[1], 'shards')
local epoch = tonumber(string.match(held or '', '@(%d+)$') or 0)
if held and epoch >= tonumber(ARGV[2]) then return held == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], 'shards', ARGV[1])
return 1
