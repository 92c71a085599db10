-- Gives a lease back, if the one who asks still holds it.
-- KEYS   1 owner
-- ARGV   1 who asks
-- Result: 1 if it was released
if #KEYS ~= 1 or #ARGV ~= 1 then
  return redis.error_reply('ERR release_lease: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
if read('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
