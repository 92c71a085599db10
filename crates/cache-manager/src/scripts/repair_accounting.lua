-- Makes what a shard says it accepted what its journal holds and what was settled, if all is still as the caller saw it. A call
-- that ended in its middle (a user who may append and not set) leaves an entry that nobody counted.
-- KEYS   1 journal stream   2 clock hash (a accepted, s settled, f largest token of a repairer)
-- ARGV   1 token   2 a, 3 s, 4 length of the journal as seen
-- Result: 1 repaired, 0 it is not as it was seen, -1 a larger token repairs
if #KEYS ~= 2 or #ARGV ~= 4 then
  return redis.error_reply('ERR repair_accounting: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call = redis.call
local held = call('HMGET', KEYS[2], 'a', 's', 'f')
local token = tonumber(ARGV[1])
if token < (number(held[3]) or 0) then return -1 end
local settled, length = number(held[2]) or 0, call('XLEN', KEYS[1])
if (number(held[1]) or 0) ~= tonumber(ARGV[2]) or settled ~= tonumber(ARGV[3]) or length ~= tonumber(ARGV[4]) then return 0 end
call('HSET', KEYS[2], 'f', token, 'a', string.format('%d', settled + length), 's', string.format('%d', settled))
return 1
