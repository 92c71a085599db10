-- A shard's accounting and its journal at the same moment. A script, because a full server refuses transactions of reads, too.
-- KEYS   1 journal stream   2 clock hash (v last version, a accepted, s settled, w settled up to)
-- Result: v, a, s, w; length of the journal; its oldest entry, if there is any; this server's time
if #KEYS ~= 2 or #ARGV ~= 0 then
  return redis.error_reply('ERR shard_status: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call = redis.call
local held = call('HMGET', KEYS[2], 'v', 'a', 's', 'w')
for i = 1, 4 do held[i] = number(held[i]) and string.format('%d', number(held[i])) or false end
return {
  held,
  call('XLEN', KEYS[1]),
  call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1),
  call('TIME'),
}
