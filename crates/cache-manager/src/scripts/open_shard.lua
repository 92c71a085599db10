-- Opens a shard again that close_shard.lua has closed, as long as its clock is kept.
-- KEYS   1 journal stream   2 clock hash   3 where the clock is kept
-- ARGV   1 what was written instead
-- Result: 1 if it was opened, else 0
if #KEYS ~= 3 or #ARGV ~= 1 then
  return redis.error_reply('ERR open_shard: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call, journal, clock, kept = redis.call, KEYS[1], KEYS[2], KEYS[3]
if redis.pcall('GET', clock) ~= ARGV[1] then return 0 end
local fields = call('HGETALL', kept)
if #fields == 0 then return 0 end
call('DEL', journal, clock, kept)
for i = 1, #fields, 2 do call('HSET', clock, fields[i], fields[i + 1]) end
return 1
