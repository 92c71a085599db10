-- Caches pairs of one shard that are not cached, or cached in an older state.
-- KEYS   pairs
-- ARGV   1 pair ttl s   per pair: version * 2 + liked
-- Result: number of pairs written
if #KEYS < 1 or #ARGV ~= 1 + #KEYS then
  return redis.error_reply('ERR fill_states: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local written = 0
for i = 1, #KEYS do
  local held, row = tonumber(redis.call('GET', KEYS[i])), tonumber(ARGV[1 + i])
  if not held or held < row then
    redis.call('SET', KEYS[i], string.format('%.0f', row), 'EX', ARGV[1])
    written = written + 1
  end
end
return written
