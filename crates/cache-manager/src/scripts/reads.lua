-- Stands before scripts that read keys which somebody else may have overwritten: a key of the wrong type is no copy of ours.
-- It goes, as if it had been evicted, instead of failing the call and all that is in it.
local function read(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
  return redis.call(command, key, ...)
end

-- A whole number that a double holds exactly. What else somebody wrote there (nan, inf, words) is no number of ours: it would
-- pass through sums, and come out as something that nobody can read.
local function number(text)
  local n = tonumber(text)
  if n and n >= -9007199254740992 and n <= 9007199254740992 and n % 1 == 0 then return n end
end

-- A shard's last version. One that is too large stays so, and shuts the shard until somebody has looked: probes name it.
local function last_version(text)
  local n = tonumber(text)
  return n == n and n or 0
end
