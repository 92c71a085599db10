-- What one shard has of users or resources up to a version: pairs, and first answers of idempotency keys.
-- KEYS   pairs and answers, all of users or resources that are looked for
-- ARGV   1 number of keys   2 1 if they go, 0 if they are only counted   3.. for each key, a version: what is newer stays
-- Result: a letter for each key: p for a pair that was there, i for an answer, - for nothing that is meant; a pair that only says that
-- there is no row goes uncounted
if #KEYS < 1 or #ARGV ~= #KEYS + 2 or tonumber(ARGV[1]) ~= #KEYS then
  return redis.error_reply('ERR sweep: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local goes = ARGV[2] == '1'
local were = {}
for i = 1, #KEYS do
  local value = read('GET', KEYS[i])
  local version = value and string.match(value, '^%d:%-?%d+:(%d+)')
  local is_answer = version ~= nil
  were[i] = '-'
  -- What is neither is no word of anybody's that is newer.
  if value and not is_answer then version = math.floor(math.abs(number(value) or 0) / 2) end
  if value and tonumber(version) <= tonumber(ARGV[i + 2]) then
    if is_answer then were[i] = 'i'
    elseif version > 0 then were[i] = 'p' end
    if goes then redis.call('DEL', KEYS[i]) end
  end
end
return table.concat(were)
