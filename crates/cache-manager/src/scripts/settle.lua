-- Settles what the database committed, for one shard.
-- Invariants: only an entry that really was in the journal lowers `p`; a stored count is taken only from a newer
-- revision; |n - dn| <= p, because every pending entry can have changed the count by one since the stored one was
-- counted, and nothing else can: the served count moves only as far as it is proven wrong. So readers see no flicker, and
-- calling this twice, late or out of order is harmless.
--
-- What was filled lives briefly until a settle confirms it, that is until the database was read again afterwards.
--
-- What the database does not know either (revision 0, version 0) lives briefly even then: anybody can ask for any id.
--
-- KEYS   1 journal stream   2 clock hash   3 hash of writers   then R counters, then P pairs
-- ARGV   1 R   2 P   3 counter ttl s   4 ttl s of an unconfirmed counter   5 pair ttl s   6 ttl s of what is unknown
--        7 writer and lane of the commit (empty: not told here)   8 its number
--        per resource: number of entries, revision (-1: not known), count, last version, then the entries' versions
--        per pair: version * 2 + liked, as the row says
-- Result: entries removed, served counts corrected, pairs refreshed
local call, max = redis.call, math.max
local KEYS, ARGV = KEYS, ARGV -- a look at a global costs five times as much

-- A number as a command takes it: written here it costs a third of what Redis does with a number of Lua. What a double does not
-- hold exactly is left to Redis.
local function written(n)
  return n > -9007199254740992 and n < 9007199254740992 and string.format('%d', n) or n
end

-- Lanes of writers that a shard remembers at most.
local MOST_WRITERS = 512
local resources, pairs_ = tonumber(ARGV[1]), tonumber(ARGV[2])
local a = 8
for _ = 1, resources or 0 do
  local entries = tonumber(ARGV[a + 1])
  if not entries then break end
  a = a + 4 + entries
end
if not resources or not pairs_ or #KEYS ~= 3 + resources + pairs_ or #ARGV ~= a + pairs_ then
  return redis.error_reply('ERR settle: arity, got ' .. #KEYS .. ' keys and ' .. #ARGV .. ' arguments')
end

local journal, clock = KEYS[1], KEYS[2]
local removed_total, corrections, refreshed, highest, settled_up_to = 0, 0, 0, 0, 0
a = 8
-- Removes nothing and needs no room: after it a full server lets the rest be written, too. What is settled makes room.
call('XDEL', journal, '0-0')
for r = 1, resources do
  local counter = KEYS[3 + r]
  local entries, revision, count = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3]
  highest = max(highest, tonumber(ARGV[a + 4]))
  a = a + 4
  local removed = 0
  local first = 1
  while first <= entries do
    -- In pieces: Lua cannot unpack thousands of values onto its stack.
    local upto = math.min(first + 499, entries)
    local ids = {}
    for i = first, upto do
      ids[i - first + 1] = ARGV[a + i]
      settled_up_to = max(settled_up_to, tonumber(ARGV[a + i]))
    end
    removed = removed + call('XDEL', journal, unpack(ids))
    first = upto + 1
  end
  a = a + entries
  removed_total = removed_total + removed

  if removed > 0 or revision >= 0 then
    local held = read('HMGET', counter, 'n', 'p', 'dn', 'dr')
    local n, before, dn, dr = number(held[1]), number(held[2]), number(held[3]), number(held[4])
    -- A counter that is not cached is not created: its next reader fills it from the database. One that is no counter
    -- any more goes.
    if not (n and before and dn and dr) then
      if held[1] then call('DEL', counter) end
    else
      local p = max(0, before - removed)
      local fresh, confirmed = revision > dr, revision >= dr
      if fresh then dn, dr = tonumber(count), revision end
      local possible = max(0, dn - p, math.min(n, dn + p))
      local wrong = n ~= possible
      if wrong then n = possible; corrections = corrections + 1 end
      if fresh or wrong or p ~= before then
        call('HSET', counter, 'n', written(n), 'p', written(p), 'dn', written(dn), 'dr', written(dr))
      end
      if p == 0 and (confirmed or before > 0) then
        call('EXPIRE', counter, ARGV[not confirmed and 4 or dr > 0 and 3 or 6])
      end
    end
  end
end

if pairs_ > 0 then
  local first = 1
  while first <= pairs_ do
    local upto = math.min(first + 499, pairs_)
    local held = call('MGET', unpack(KEYS, 3 + resources + first, 3 + resources + upto))
    for i = first, upto do
      local pair, was, row = KEYS[3 + resources + i], number(held[i - first + 1]), tonumber(ARGV[a + i])
      highest = max(highest, math.floor(row / 2))
      if was and math.abs(was) < row then
        call('SET', pair, written(was > 0 and row or -row), 'KEEPTTL')
        refreshed = refreshed + 1
      end
      if was and was <= 0 and -was <= row then call('EXPIRE', pair, ARGV[row > 0 and 5 or 6]) end
    end
    first = upto + 1
  end
end

local accounting = call('HMGET', clock, 'v', 's', 'w')
local v, s, w = last_version(accounting[1]), number(accounting[2]) or 0, number(accounting[3]) or 0
-- Rows written around the cache may be ahead of its clock; later likes must still win against them.
if highest > v or removed_total > 0 or settled_up_to > w then
  call('HSET', clock, 'v', written(max(v, highest)), 's', written(s + removed_total), 'w', written(max(w, settled_up_to)))
end

-- What a database that goes back has lost is known here, also when the process is gone that had committed it.
if ARGV[7] ~= '' then
  local writers = KEYS[3]
  local told = string.match(read('HGET', writers, ARGV[7]) or '', '^(%d+):')
  if not told or tonumber(told) < tonumber(ARGV[8]) then
    local time = call('TIME')
    call('HSET', writers, ARGV[7], ARGV[8] .. ':' .. time[1])
    if not told and call('HLEN', writers) > MOST_WRITERS then
      -- A new one: half of them go, those that were not heard of for the longest time. Never itself: many may be of one
      -- second, and the others' may be of a clock that was ahead.
      local fields, ages = call('HGETALL', writers), {}
      for i = 1, #fields, 2 do
        local at = tonumber(string.match(fields[i + 1], ':(%d+)$')) or 0
        if fields[i] ~= ARGV[7] then ages[#ages + 1] = { at, fields[i] } end
      end
      table.sort(ages, function(x, y) return x[1] < y[1] end)
      for i = 1, MOST_WRITERS / 2 do call('HDEL', writers, ages[i][2]) end
    end
  end
end
return { removed_total, corrections, refreshed }
