-- Takes a token of a user's limit, or gives one back. Only where the limit is in another slot than the pair: see accept.lua.
-- KEYS   1 user limit
-- ARGV   1 interval us   2 period us   3 tokens: 1 to take one, -1 to give it back
-- Result: 0, or the milliseconds until there is one
if #KEYS ~= 1 or #ARGV ~= 3 then
  return redis.error_reply('ERR take_token: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local interval, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = tonumber(read('GET', KEYS[1])) or now
-- Further ahead than any limit leads: the clock was set back, and must not lock the user out for as long as it jumped.
if tat < now or tat > now + period + 1000000 then tat = now end
tat = tat + interval * tonumber(ARGV[3])
local over = tat - now - period
if over > 0 then return math.ceil(over / 1000) end
if tat <= now then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.max(1, math.ceil((tat - now) / 1000)))
end
return 0
