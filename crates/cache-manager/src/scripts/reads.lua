-- Stands before scripts that read keys which somebody else may have overwritten: a key of the wrong type is no copy of ours.
-- It goes, as if it had been evicted, instead of failing the call and all that is in it.
local function read(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
  return redis.call(command, key, ...)
end
