-- A closed shard is never opened again: its clock is not kept any longer.
-- KEYS   1 journal stream   2 clock hash   3 where the clock is kept
-- ARGV   1 what was written instead
-- Result: 1 if it is closed, 0 if it was opened meanwhile
if #KEYS ~= 3 or #ARGV ~= 1 then
  return redis.error_reply('ERR seal_shard: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] or redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[3])
return 1
