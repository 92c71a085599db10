-- Closes a shard with nothing unsettled, for good or until it is opened again: words take the places of its journal and its clock.
-- Nobody accepts, settles or remembers there any more, however long they were frozen, and whatever release they are of: each script
-- that writes what must not be lost meets a key of the wrong type before it has written anything.
-- KEYS   1 journal stream   2 clock hash   3 where the clock is kept
-- ARGV   1 what is written instead
-- Result: how many entries are unsettled (0: it is closed, now or since before), and its clock as it was
if #KEYS ~= 3 or #ARGV ~= 1 then
  return redis.error_reply('ERR close_shard: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call, journal, clock, kept = redis.call, KEYS[1], KEYS[2], KEYS[3]
local word = redis.pcall('GET', clock)
if type(word) == 'string' then
  if word ~= ARGV[1] then
    return redis.error_reply('ERR close_shard: somebody else wrote ' .. clock)
  end
  call('SET', journal, word)
  return { 0, last_version(call('HGET', kept, 'v')) }
end
local entries = call('XLEN', journal)
if entries > 0 then return { entries, 0 } end
local fields = call('HGETALL', clock)
call('DEL', kept, journal, clock)
for i = 1, #fields, 2 do call('HSET', kept, fields[i], fields[i + 1]) end
-- Of a shard that nobody has used either: where nothing is kept, it is closed for good.
call('HSETNX', kept, 'v', 0)
call('SET', journal, ARGV[1])
call('SET', clock, ARGV[1])
return { 0, last_version(call('HGET', kept, 'v')) }
