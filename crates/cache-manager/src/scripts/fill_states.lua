-- Caches pairs of one shard that are not cached, or cached in an older state.
-- A new one is negative (see accept.lua) and lives briefly until a settle confirms it.
-- KEYS   pairs
-- ARGV   1 ttl s of a filled pair   2 that of one which the database does not know   per pair: version * 2 + liked
-- Result: number of pairs written
if #KEYS < 1 or #ARGV ~= 2 + #KEYS then
  return redis.error_reply('ERR fill_states: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local written = 0
for i = 1, #KEYS do
  local held, row = number(read('GET', KEYS[i])), tonumber(ARGV[2 + i])
  if not held then
    redis.call('SET', KEYS[i], -row, 'EX', ARGV[row > 0 and 1 or 2])
    written = written + 1
  elseif math.abs(held) < row then
    redis.call('SET', KEYS[i], held > 0 and row or -row, 'KEEPTTL')
    written = written + 1
  end
end
return written
