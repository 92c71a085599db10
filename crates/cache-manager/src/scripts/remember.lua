-- Remembers what the first calls with some keys were told, where nothing or something older is known. A call that was accepted
-- here unheard is written around the cache by its server, with a newer version: that is what its caller was told.
-- Fails where the shard was closed (close_shard.lua): what is written after that is not found any more.
-- KEYS   1 clock hash   then idempotency keys
-- ARGV   per key: answer, its version, ms for which it lives
-- Result: how many were written
if #KEYS < 2 or #ARGV ~= 3 * #KEYS - 3 then
  return redis.error_reply('ERR remember: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
redis.call('HGET', KEYS[1], 'v')
local written = 0
for i = 1, #KEYS - 1 do
  local key, answer, version, left = KEYS[i + 1], ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local held = string.match(read('GET', key) or '', '^%d:%-?%d+:(%d+)')
  if not held or tonumber(held) < tonumber(version) then
    redis.call('SET', key, answer, 'PX', left)
    written = written + 1
  end
end
return written
