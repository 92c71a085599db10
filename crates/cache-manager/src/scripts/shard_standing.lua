-- How a shard stands: open, closed until it is opened again, or closed for good.
-- KEYS   1 journal stream   2 clock hash   3 where the clock is kept
-- ARGV   1 what is written instead of both
-- Result: 0 open, 1 closed, 2 sealed; what stands there if it is closed for something else
if #KEYS ~= 3 or #ARGV ~= 1 then
  return redis.error_reply('ERR shard_standing: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local word = redis.pcall('GET', KEYS[2])
if type(word) ~= 'string' then return { 0, '' } end
if word ~= ARGV[1] then return { 0, word } end
return { redis.call('EXISTS', KEYS[3]) == 1 and 1 or 2, '' }
