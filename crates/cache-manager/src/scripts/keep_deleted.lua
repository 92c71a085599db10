-- Keeps marks of deleted and restored resources of one shard: of each the newest word counts, and no fence is lowered.
-- KEYS   1 clock hash (d number of resources that are deleted now, so that likes of others need not ask for marks)
--        2 marks: hash, letter and id of a resource to `at:up_to:1`, deleted, or `at:up_to:0`, restored
-- ARGV   per mark: field, at, up_to, 1 or 0
-- Result: marks that are new, or other than before
if #KEYS ~= 2 or #ARGV % 4 ~= 0 then
  return redis.error_reply('ERR keep_deleted: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call, clock, marks = redis.call, KEYS[1], KEYS[2]
local function is_deleted(mark) return mark and string.sub(mark, -2) == ':1' end

local before = number(call('HGET', clock, 'd'))
local deleted = before
-- Either may have been lost without the other.
if not before or read('HLEN', marks) == 0 then
  deleted = 0
  local all = read('HGETALL', marks)
  for i = 2, #all, 2 do
    if is_deleted(all[i]) then deleted = deleted + 1 end
  end
end
local kept = 0
for i = 1, #ARGV, 4 do
  local field, at, up_to, word = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local held = call('HGET', marks, field)
  local held_at, fence, held_word = string.match(held or '', '^(%d+):(%d+):([01])$')
  if held_at and tonumber(held_at) >= tonumber(at) then at, word = held_at, held_word end
  if fence and tonumber(fence) > tonumber(up_to) then up_to = fence end
  local mark = at .. ':' .. up_to .. ':' .. word
  if mark ~= held then
    call('HSET', marks, field, mark)
    deleted = deleted - (is_deleted(held) and 1 or 0) + (is_deleted(mark) and 1 or 0)
    kept = kept + 1
  end
end
if deleted ~= before then call('HSET', clock, 'd', string.format('%d', deleted)) end
return kept
