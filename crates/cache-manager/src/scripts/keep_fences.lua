-- Keeps fences; a lower one than is kept changes nothing.
-- KEYS   1 fences: hash, user to version
-- ARGV   per fence: user, version
-- Result: fences that are new, or higher
if #KEYS ~= 1 or #ARGV % 2 ~= 0 then
  return redis.error_reply('ERR keep_fences: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local raised = 0
for i = 1, #ARGV, 2 do
  local held = number(read('HGET', KEYS[1], ARGV[i]))
  if not held or held < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    raised = raised + 1
  end
end
return raised
