-- What one shard has of a user or a resource up to a version: pairs, and first answers of idempotency keys.
-- KEYS   pairs and answers, all of one user or one resource
-- ARGV   1 number of keys   2 version: what is newer stays   3 1 if they go, 0 if they are only counted
-- Result: pairs, and answers, that were there; a pair that only says that there is no row goes uncounted
if #KEYS < 1 or #ARGV ~= 3 or tonumber(ARGV[1]) ~= #KEYS then
  return redis.error_reply('ERR sweep: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local up_to, goes = tonumber(ARGV[2]), ARGV[3] == '1'
local pairs_, answers = 0, 0
for i = 1, #KEYS do
  local value = read('GET', KEYS[i])
  local version = value and string.match(value, '^%d:%-?%d+:(%d+)')
  local is_answer = version ~= nil
  -- What is neither is no word of anybody's that is newer.
  if value and not is_answer then version = math.floor(math.abs(number(value) or 0) / 2) end
  if value and tonumber(version) <= up_to then
    if is_answer then answers = answers + 1
    elseif version > 0 then pairs_ = pairs_ + 1 end
    if goes then redis.call('DEL', KEYS[i]) end
  end
end
return { pairs_, answers }
