-- Repairs a counter, if it is still as the caller saw it before reading the database.
-- Invariant: the served count is never overwritten while entries are pending. The exception is a caller that searched
-- the journal after it saw the counter and found none of them: while `v` is the same, nothing was accepted since.
-- KEYS   1 clock hash (f largest token of a repairer)   2 counter
-- ARGV   1 token   2 abandoned (0 or 1)   3 n, 4 p, 5 v, 6 dn, 7 dr as seen   8 count   9 revision   10 counter ttl s
-- Result: 1 repaired, 0 it is not as it was seen, -1 a larger token repairs
if #KEYS ~= 2 or #ARGV ~= 10 then
  return redis.error_reply('ERR repair_count: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local token = tonumber(ARGV[1])
if token < (number(redis.call('HGET', KEYS[1], 'f')) or 0) then return -1 end
local held = read('HMGET', KEYS[2], 'n', 'p', 'v', 'dn', 'dr')
if not held[1] then return 0 end
for i = 1, 5 do
  if (number(held[i]) or 0) ~= tonumber(ARGV[2 + i]) then return 0 end
end
if tonumber(ARGV[4]) > 0 and ARGV[2] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'f', token)
redis.call('HSET', KEYS[2], 'n', ARGV[8], 'p', 0, 'dn', ARGV[8], 'dr', ARGV[9])
redis.call('EXPIRE', KEYS[2], ARGV[10])
return 1
