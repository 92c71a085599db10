-- Accepts likes of one shard. Names in capitals are those of accept/codec.rs, which also shows a whole call.
-- Invariants: pair, counter, journal entry and shard clock of an item change together or not at all; the entry's id is
-- its version, and versions strictly increase within the shard; nothing takes effect after its deadline.
--
-- A pair is version * 2 + liked; negative while it was only seen in the database, never accepted here. Such a pair may be
-- older than an event that is still on its way, so it is no reason to answer "unchanged".
--
-- KEYS   1 journal stream   2 clock hash (v last version, a accepted, s settled, w settled up to, d deleted resources)
--        3 marks of deleted resources: hash, see keep_deleted.lua; not looked at where d says that there are none
--        per item: pair, counter [, idempotency key] [, user limit]
-- ARGV   1 number of items   2 journal limit   3 pair ttl s   4 ttl s of a filled counter   5 idempotency ttl s
--        6 user limit interval us   7 user limit period us   8 deadline us by this server's clock (0: none)
--        9 ceiling us: a version is not dated later, whatever this server's clock says (0: none)
--        10 the field of the caller's mark: the last version it was given here   11 the highest version it was answered
--        12 this server's run (empty: not known)   13 a version that no server before this one can have reached
--        per item: options, payload [, count, revision, last version] [, own deadline us]
-- Result: 1 if the shard is not what it was when it answered the caller, else 0; per item: code, count (-1: none), version
local call, band, max, min = redis.call, bit.band, math.max, math.min
local KEYS, ARGV = KEYS, ARGV -- a look at a global costs five times as much
-- Numbers go into commands as integers written here: what Redis does with a number of Lua costs three times as much.
local format = string.format
local items = tonumber(ARGV[1])
local keys, args = 3, HEAD
for _ = 1, items or 0 do
  local options = tonumber(ARGV[args + 1])
  if not options then break end
  keys, args = keys + 2, args + 2
  if options > LIKE then
    keys = keys + band(options, IDEMPOTENCY_KEY) / IDEMPOTENCY_KEY + band(options, USER_LIMIT) / USER_LIMIT
    args = args + band(options, FILL) / FILL * 3 + band(options, OWN_DEADLINE) / OWN_DEADLINE
  end
end
if not items or keys ~= #KEYS or args ~= #ARGV then
  return redis.error_reply('ERR accept: expected ' .. keys .. ' keys and ' .. args .. ' arguments, got ' .. #KEYS .. ' and ' .. #ARGV)
end

local journal, clock, marks = KEYS[1], KEYS[2], KEYS[3]
local limit, deadline, ceiling = tonumber(ARGV[2]), tonumber(ARGV[8]), tonumber(ARGV[9])
local interval, period = tonumber(ARGV[6]), tonumber(ARGV[7])
local floor, run = tonumber(ARGV[11]), ARGV[12]
local accounting = call('HMGET', clock, 'v', 'a', 'b', 'r', ARGV[10], 'd')
local last, accepted = last_version(accounting[1]), number(accounting[2]) or 0
local last_before, last_id = last, nil -- last_id: `last` as written in the journal, nil if it moved on without an entry
-- Pairs up to this version are older than the server that holds them, or than a step back of it: a newer word may be on its
-- way that only the process knows that gave it. They are no reason to answer "unchanged".
local back = number(accounting[3]) or 0
local went_back = (number(accounting[5]) or 0) < floor
local any_deleted = (number(accounting[6]) or 0) > 0
local met = went_back or run ~= '' and accounting[4] ~= run
local room = limit - call('XLEN', journal)
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
-- A clock that was set ahead must not date likes into the future: they would win against everything until then.
local date = ceiling > 0 and min(now, ceiling) or now

local result = { went_back and 1 or 0 }
-- A call that was stuck on its way (a paused server, a slow link) must not take effect after its caller gave up: the
-- user may have done something else meanwhile, and this would undo it.
if deadline > 0 and now > deadline then
  for i = 1, items do result[3 * i - 1], result[3 * i], result[3 * i + 1] = EXPIRED, -1, 0 end
  return result
end
if met then
  -- What was answered before came from a clock that may be ahead of this server's, and from a shard that had given more: the
  -- next version is above all of that, or an older word that is still on its way would win against a newer one.
  last = max(last, floor, tonumber(ARGV[13]))
  back = last
end
local k, a, out = 3, HEAD, 1
local function answer(code, count, version)
  result[out + 1], result[out + 2], result[out + 3] = code, count, version
  out = out + 3
end

-- Takes the next item's keys and arguments, and answers it.
local function accept_next()
  local options, payload = tonumber(ARGV[a + 1]), ARGV[a + 2]
  local pair, counter = KEYS[k + 1], KEYS[k + 2]
  k, a = k + 2, a + 2
  local wanted = options % 2
  local idempotency, user, fill, without_count, rewrite, reserve
  if options > LIKE then
    without_count, rewrite = band(options, WITHOUT_COUNT) ~= 0, band(options, REWRITE) ~= 0
    reserve = band(options, RESERVE) ~= 0
    if band(options, IDEMPOTENCY_KEY) ~= 0 then k = k + 1; idempotency = KEYS[k] end
    if band(options, USER_LIMIT) ~= 0 then k = k + 1; user = KEYS[k] end
    if band(options, FILL) ~= 0 then fill = { ARGV[a + 1], ARGV[a + 2], ARGV[a + 3] }; a = a + 3 end
    if band(options, OWN_DEADLINE) ~= 0 then
      a = a + 1
      if now > tonumber(ARGV[a]) then return answer(EXPIRED, -1, 0) end
    end
  end

  -- Before everything that costs or tells something: neither a token is taken, nor is a key answered.
  if any_deleted then
    -- A counter is named as the journal is, with its resource behind: `:c:v42` where that has `:j`.
    local mark = read('HGET', marks, string.sub(counter, #journal + 2))
    if mark and string.sub(mark, -2) == ':1' then return answer(DELETED, -1, 0) end
  end

  -- One command for what may be there. What is no string reads as nothing, and is written over.
  local known
  if user and idempotency then known = call('MGET', pair, user, idempotency)
  elseif user then known = call('MGET', pair, user)
  elseif idempotency then known = call('MGET', pair, pair, idempotency)
  else known = call('MGET', pair) end
  if idempotency then
    local before, count, version, asked = string.match(known[3] or '', '^(%d):(-?%d+):(%d+):?(%d?)$')
    if before then
      if asked ~= '' and tonumber(asked) ~= wanted then return answer(KEY_REUSED, -1, 0) end
      return answer(before == '0' and REPEATED_ACCEPTED or REPEATED_UNCHANGED, tonumber(count), tonumber(version))
    end
  end

  local seen = read('HMGET', counter, 'n', 'p')
  local n, p = number(seen[1]), number(seen[2])
  if not p then n = nil end
  if not n and not fill and not reserve and not without_count then return answer(COUNT_MISSING, -1, 0) end

  -- Over the limit costs nothing; a token is taken only when the item is answered.
  local tat
  if user then
    tat = number(known[2]) or now
    -- Further ahead than any limit leads: the clock was set back, and must not lock the user out for as long as it jumped.
    if tat < now or tat > now + period + 1000000 then tat = now end
    tat = tat + interval
    local over = tat - now - period
    if over > 0 then return answer(RATE_LIMITED, math.ceil(over / 1000), 0) end
  end

  local held = number(known[1])
  if reserve then
    if user then call('SET', user, format('%d', tat), 'PX', format('%d', max(1, math.ceil((tat - now) / 1000)))) end
    last, last_id = max(last + 1, date, tonumber(payload) + 1), nil
    -- What was only seen in the database is no news to whoever is about to write there.
    -- Nor is a pair of before `back`: see there.
    return answer(RESERVED, held and held > 0 and (held - held % 2) / 2 > back and held or 0, last)
  end
  local same = held and held % 2 == wanted
  local unchanged = same and held > 0 and (held - wanted) / 2 > back and not rewrite
  if not unchanged and room <= 0 then return answer(OVERLOADED, -1, 0) end
  if user then call('SET', user, format('%d', tat), 'PX', format('%d', max(1, math.ceil((tat - now) / 1000)))) end

  local stored, revision
  if not n and fill then
    -- The clock must not fall behind what the database already holds, or this like would lose against an older row.
    n, p, stored, revision = tonumber(fill[1]), 0, fill[1], fill[2]
    last, last_id = max(last, tonumber(fill[3])), nil
  end

  if unchanged then
    if stored then
      call('HSET', counter, 'n', stored, 'p', 0, 'v', 0, 'dn', stored, 'dr', revision)
      call('EXPIRE', counter, ARGV[4])
    end
    -- Its key is not remembered: the caller has to confirm this with the database first.
    return answer(UNCHANGED, n or -1, (held - wanted) / 2)
  end
  -- Strictly increasing even if the clock stands still or goes back.
  local version = max(last + 1, date)
  local id = format('%d', version)
  last, last_id = version, id
  call('XADD', journal, id, 'e', payload)
  room = room - 1
  accepted = accepted + 1
  call('SET', pair, format('%d', version * 2 + wanted), 'EX', ARGV[3])
  if n then
    if not same then n = max(0, n + wanted * 2 - 1) end
    if stored then
      call('HSET', counter, 'n', format('%d', n), 'p', 1, 'v', id, 'dn', stored, 'dr', revision)
    else
      call('HSET', counter, 'n', format('%d', n), 'p', format('%d', p + 1), 'v', id)
      -- A counter with pending entries must not expire: its pending number would be lost.
      if p == 0 then call('PERSIST', counter) end
    end
  end
  if idempotency then
    call('SET', idempotency, format('%d:%d:%s:%d', ACCEPTED, n or -1, id, wanted), 'EX', ARGV[5])
  end
  return answer(ACCEPTED, n or -1, version)
end

for _ = 1, items do accept_next() end

if met then call('HSET', clock, 'b', back, 'r', run ~= '' and run or accounting[4] or '') end
if met or last ~= last_before then
  if not accounting[5] then
    -- A new process: marks of those that are gone go. Whoever had no answer for half as long begins anew.
    local fields = call('HGETALL', clock)
    for i = 1, #fields, 2 do
      if string.sub(fields[i], 1, 2) == 'm:' and tonumber(fields[i + 1]) < last - MARK_TTL then call('HDEL', clock, fields[i]) end
    end
  end
  local id = last_id or format('%d', last)
  call('HSET', clock, 'v', id, 'a', format('%d', accepted), ARGV[10], id)
end
return result
