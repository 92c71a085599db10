-- Makes a pair what its row says, if it is still as the caller saw it before reading the row.
-- KEYS   1 clock hash (v last version, f largest token of a repairer)   2 pair
-- ARGV   1 token   2 version * 2 + liked as seen   3 the same as the row says
-- Result: 1 repaired, 0 it is not as it was seen, -1 a larger token repairs
if #KEYS ~= 2 or #ARGV ~= 3 then
  return redis.error_reply('ERR repair_pair: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local token = tonumber(ARGV[1])
local accounting = redis.call('HMGET', KEYS[1], 'v', 'f')
if token < (number(accounting[2]) or 0) then return -1 end
local held = number(read('GET', KEYS[2]))
if not held or math.abs(held) ~= tonumber(ARGV[2]) then return 0 end
local row = tonumber(ARGV[3])
-- Later likes must win against the row.
redis.call('HSET', KEYS[1], 'f', token, 'v', math.max(last_version(accounting[1]), math.floor(row / 2)))
redis.call('SET', KEYS[2], held > 0 and row or -row, 'KEEPTTL')
return 1
