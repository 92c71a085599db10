-- Remembers what the first calls with some keys were told, where nothing or something older is known. A call that was accepted
-- here unheard is written around the cache by its server, with a newer version: that is what its caller was told.
-- KEYS   idempotency keys
-- ARGV   per key: answer, its version, ms for which it lives
-- Result: how many were written
if #KEYS == 0 or #ARGV ~= 3 * #KEYS then
  return redis.error_reply('ERR remember: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local written = 0
for i = 1, #KEYS do
  local answer, version, left = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local held = string.match(read('GET', KEYS[i]) or '', '^%d:%-?%d+:(%d+)')
  if not held or tonumber(held) < tonumber(version) then
    redis.call('SET', KEYS[i], answer, 'PX', left)
    written = written + 1
  end
end
return written
