-- Takes a lease, or renews it for its owner. The token grows with every change of owner and fences the one before.
-- KEYS   1 owner   2 token counter
-- ARGV   1 who asks   2 ttl ms
-- Result: token, or 0 if somebody else holds it
if #KEYS ~= 2 or #ARGV ~= 2 then
  return redis.error_reply('ERR acquire_lease: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
-- A full server lets a script write that has written something which needs no room: whoever holds the lease makes room.
local owner = read('GET', KEYS[1])
if not owner then redis.call('DEL', KEYS[1]) end
if not owner or owner == ARGV[1] then
  local token = number(read('GET', KEYS[2]))
  if not token then
    -- Gone, or overwritten by somebody: the clock's microseconds are more than all changes of owner so far.
    local now = redis.call('TIME')
    redis.call('DEL', KEYS[2])
    redis.call('SET', KEYS[2], now[1] .. string.format('%06d', now[2]))
  end
  if owner then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return token or redis.call('INCR', KEYS[2])
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return redis.call('INCR', KEYS[2])
end
-- Longer than anybody asks for: it was taken while this server's clock was ahead, and would outlive its owner by as much.
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
