-- Whether a shard can go on: its next version must find room above the last id of its journal, and be an exact number.
-- Somebody else's entry with a larger id shuts the journal for good, also when it is deleted. Writes nothing.
-- KEYS   1 journal stream   2 clock hash (v last version)
-- ARGV   1 largest version
-- Result: 0 it can, 1 its journal ends above every version that comes next, 2 its clock stands above every version; and what
-- shard_status.lua says
if #KEYS ~= 2 or #ARGV ~= 1 then
  return redis.error_reply('ERR probe_shard: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end
local call = redis.call
local held = call('HMGET', KEYS[2], 'v', 'a', 's', 'w')
local v = last_version(held[1])
for i = 1, 4 do held[i] = number(held[i]) and string.format('%d', number(held[i])) or false end
local time = call('TIME')
local length = call('XLEN', KEYS[1])
local head = length > 0 and call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1) or {}
local status = { held, length, head, time }
if v >= tonumber(ARGV[1]) then return { 2, status } end
if length == 0 and call('EXISTS', KEYS[1]) == 0 then return { 0, status } end
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
-- Who may not ask learns it from the first like.
if info.err then return { 0, status } end
local now = time[1] * 1000000 + time[2]
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    local last = tonumber(string.match(info[i + 1], '^(%d+)-')) or 0
    if last > v and last > now then return { 1, status } end
  end
end
return { 0, status }
