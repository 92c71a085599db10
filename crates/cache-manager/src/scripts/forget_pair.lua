-- Forgets a pair that is still as one version left it.
-- KEYS   1 pair
-- ARGV   1 version
-- Result: 1 forgotten, 0 it is not cached, or of another version
if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR forget_pair: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local held = number(read('GET', KEYS[1]))
if not held or math.floor(math.abs(held) / 2) ~= tonumber(ARGV[1]) then return 0 end
return redis.call('DEL', KEYS[1])
