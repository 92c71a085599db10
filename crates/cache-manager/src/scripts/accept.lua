-- Accepts likes of one shard.
-- Invariant: pair, counter, journal entry and shard clock of an item change together or not at all; the entry's id is
-- its version, and versions strictly increase within the shard.
--
-- A pair is version * 2 + liked; negative while it was only seen in the database, never accepted here. Such a pair may be
-- older than an event that is still on its way, so it is no reason to answer "unchanged".
--
-- KEYS   1 journal stream   2 clock hash (v last version, a accepted, s settled, w settled up to)
--        per item: pair, counter [, idempotency key if option 2] [, user limit if option 4]
-- ARGV   1 number of items   2 journal limit   3 pair ttl s   4 ttl s of a filled counter   5 idempotency ttl s
--        6 user limit interval us   7 user limit period us   8 deadline us by this server's clock (0: none)
--        per item: options, payload [, count, revision, last version if option 8]
--        options: sum of 1 like (else unlike), 2 idempotency key, 4 user limit, 8 fill a missing counter,
--        16 accept without a counter, 32 write even if the pair is as wanted,
--        64 only take a version: the payload is the one it must exceed, and nothing but clock and limit is written
-- Result per item: code, count (-1: none; code 5: retry after ms; code 8: the pair if it was accepted here, else 0), version
--        codes: 0 accepted, 1 unchanged, 2 repeated accepted, 3 count missing, 4 overloaded, 5 rate limited,
--        6 expired, 7 repeated unchanged, 8 version taken
local call, band, max = redis.call, bit.band, math.max
local items = tonumber(ARGV[1])
local keys, args = 2, 8
for _ = 1, items or 0 do
  local options = tonumber(ARGV[args + 1])
  if not options then break end
  keys = keys + 2 + band(options, 2) / 2 + band(options, 4) / 4
  args = args + 2 + band(options, 8) / 8 * 3
end
if not items or keys ~= #KEYS or args ~= #ARGV then
  return redis.error_reply('ERR accept: expected ' .. keys .. ' keys and ' .. args .. ' arguments, got ' .. #KEYS .. ' and ' .. #ARGV)
end

local journal, clock = KEYS[1], KEYS[2]
local limit = tonumber(ARGV[2])
local accounting = call('HMGET', clock, 'v', 'a')
local last, accepted = tonumber(accounting[1]) or 0, tonumber(accounting[2]) or 0
local last_before = last
local room = limit - call('XLEN', journal)
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local result = {}
-- A call that was stuck on its way (a paused server, a slow link) must not take effect after its caller gave up: the
-- user may have done something else meanwhile, and this would undo it.
local deadline = tonumber(ARGV[8])
if deadline > 0 and now > deadline then
  for i = 1, items do result[3 * i - 2], result[3 * i - 1], result[3 * i] = 6, -1, 0 end
  return result
end
local k, a, out = 2, 8, 0
local function answer(code, count, version)
  result[out + 1], result[out + 2], result[out + 3] = code, count, version
  out = out + 3
end

local function accept_one(pair, counter, idempotency, user, wanted, payload, fill, without, rewrite, reserve)
  if idempotency then
    local first = call('GET', idempotency)
    if first then
      local before, count, version = string.match(first, '^(%d):(-?%d+):(%d+)$')
      return answer(before == '0' and 2 or 7, tonumber(count), tonumber(version))
    end
  end

  local seen = call('HMGET', counter, 'n', 'p')
  local n, p = tonumber(seen[1]), tonumber(seen[2])
  if not n and not fill and not without and not reserve then return answer(3, -1, 0) end

  -- Over the limit costs nothing; a token is taken only when the item is answered.
  local tat
  if user then
    tat = tonumber(call('GET', user)) or now
    if tat < now then tat = now end
    tat = tat + tonumber(ARGV[6])
    local over = tat - now - tonumber(ARGV[7])
    if over > 0 then return answer(5, math.ceil(over / 1000), 0) end
  end

  local held = tonumber(call('GET', pair))
  if reserve then
    if user then call('SET', user, tat, 'PX', max(1, math.ceil((tat - now) / 1000))) end
    last = max(last + 1, now, tonumber(payload) + 1)
    -- What was only seen in the database is no news to whoever is about to write there.
    return answer(8, max(held or 0, 0), last)
  end
  local same = held and held % 2 == wanted
  local unchanged = same and held > 0 and not rewrite
  if not unchanged and room <= 0 then return answer(4, -1, 0) end
  if user then call('SET', user, tat, 'PX', max(1, math.ceil((tat - now) / 1000))) end

  local stored, revision
  if not n and fill then
    -- The clock must not fall behind what the database already holds, or this like would lose against an older row.
    n, p, stored, revision = tonumber(fill[1]), 0, fill[1], fill[2]
    last = max(last, tonumber(fill[3]))
  end

  local code, version
  if unchanged then
    code, version = 1, (held - wanted) / 2
    if stored then
      call('HSET', counter, 'n', stored, 'p', 0, 'v', 0, 'dn', stored, 'dr', revision)
      call('EXPIRE', counter, ARGV[4])
    end
  else
    code = 0
    -- Strictly increasing even if the clock stands still or goes back.
    version = max(last + 1, now)
    last = version
    -- Written once: every number that goes into a command is formatted anew, and that is what this script spends most on.
    local id = string.format('%.0f', version)
    call('XADD', journal, id, 'e', payload)
    room = room - 1
    accepted = accepted + 1
    call('SET', pair, version * 2 + wanted, 'EX', ARGV[3])
    if n then
      if not same then n = max(0, n + wanted * 2 - 1) end
      if stored then
        call('HSET', counter, 'n', n, 'p', 1, 'v', id, 'dn', stored, 'dr', revision)
      else
        call('HSET', counter, 'n', n, 'p', p + 1, 'v', id)
        -- A counter with pending entries must not expire: its pending number would be lost.
        if p == 0 then call('PERSIST', counter) end
      end
    end
  end
  if idempotency then call('SET', idempotency, string.format('%d:%.0f:%.0f', code, n or -1, version), 'EX', ARGV[5]) end
  return answer(code, n or -1, version)
end

for _ = 1, items do
  local options = tonumber(ARGV[a + 1])
  local pair, counter = KEYS[k + 1], KEYS[k + 2]
  k = k + 2
  local idempotency, user, fill
  if band(options, 2) ~= 0 then k = k + 1; idempotency = KEYS[k] end
  if band(options, 4) ~= 0 then k = k + 1; user = KEYS[k] end
  local payload = ARGV[a + 2]
  a = a + 2
  if band(options, 8) ~= 0 then fill = { ARGV[a + 1], ARGV[a + 2], ARGV[a + 3] }; a = a + 3 end
  accept_one(pair, counter, idempotency, user, band(options, 1), payload, fill, band(options, 16) ~= 0,
    band(options, 32) ~= 0, band(options, 64) ~= 0)
end

if last ~= last_before then call('HSET', clock, 'v', last, 'a', accepted) end
return result
