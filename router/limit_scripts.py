"""What is decided inside Redis: whether limits that routers share let a request pass. Pure text.

    TAKE     of all limited names that a request meets, or of none: and what each holds
    SETTLE   it ended: its place comes back, its tokens cost what they cost
    RENEW    it still runs: places of a router that died lapse
    ADD      what was granted elsewhere meanwhile counts too

The arithmetic is `router.limits.Meter`'s, and a test holds the two against each other. In ms where
it counts ns: a double is exact up to limits of ten billion a minute.

    KEYS  of each name three:   a hash: `ra ro` requests' meter at, owed; `ta to th` tokens' at,
                                owed, held; `n` holds so far; an id → what is left of its hold
                                a sorted set: who runs, until when unless it is renewed
                                a sorted set: who holds tokens, the oldest first

Only what a request of its own gave is settled, and once: whoever does not run is none. Ids are the
routers' own. Each key goes when nobody asked for so long that nothing is left in it.
"""

#: One request or token: `limit` of them come back in a minute, `limit` a ms.
ONE = 60_000
#: What is owed may take ten minutes to come back.
KEEP_MS = 15 * 60_000

#: By one clock for all. A test has one of its own.
NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_METERS = """
local ONE, KEEP = 60000, 900000

-- What drains goes first from what is owed for certain, then from holds, the oldest first.
local function drain(one, left)
  if left <= one.to then
    one.to = one.to - left
    return
  end
  left = left - one.to
  one.to = 0
  while one.th > 0 do
    local id = redis.call('ZRANGE', one.order, 0, 0)[1]
    if not id then
      one.th = 0
      return
    end
    local held = tonumber(redis.call('HGET', one.hash, id)) or 0
    if held > left then
      redis.call('HSET', one.hash, id, held - left)
      one.th = one.th - left
      return
    end
    left = left - held
    one.th = one.th - held
    redis.call('ZREM', one.order, id)
    redis.call('HDEL', one.hash, id)
  end
end

-- As it is now. A clock that was set back loses nothing but the time between.
local function open(i, rpm, tpm)
  local f = redis.call('HMGET', KEYS[i], 'ra', 'ro', 'ta', 'to', 'th', 'n')
  local one = {hash = KEYS[i], runs = KEYS[i + 1], order = KEYS[i + 2], rpm = rpm, tpm = tpm}
  local ra, ta = tonumber(f[1]) or now, tonumber(f[3]) or now
  one.ro, one.to, one.th = tonumber(f[2]) or 0, tonumber(f[4]) or 0, tonumber(f[5]) or 0
  one.n = tonumber(f[6]) or 0
  if rpm > 0 and now > ra then one.ro = math.max(0, one.ro - (now - ra) * rpm) end
  if tpm > 0 and now > ta then drain(one, (now - ta) * tpm) end
  return one
end

local function close(one)
  if one.rpm > 0 then redis.call('HSET', one.hash, 'ra', now, 'ro', one.ro) end
  if one.tpm > 0 then
    redis.call('HSET', one.hash, 'ta', now, 'to', one.to, 'th', one.th, 'n', one.n)
  end
  redis.call('PEXPIRE', one.hash, KEEP)
  redis.call('PEXPIRE', one.runs, KEEP)
  redis.call('PEXPIRE', one.order, KEEP)
end

-- A `usage` that is wrong by orders of magnitude shuts nobody out for longer than ten minutes.
local function owe(owed, more, limit)
  return math.max(owed, math.min(owed + more, 10 * limit * ONE))
end
"""

#: ARGV: an id, ms until its places lapse, until when anybody waits for the answer (0: for ever);
#: of each name rpm, tpm, places (0: not limited), tokens. Answers 1, or 0 where nothing was taken,
#: or -1 where nobody waits any more; the time; of each name what its meters held before, and how
#: many ran (-1: not limited).
_TAKE = """
local id, lease, waits = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if waits > 0 and now > waits then return {-1, now} end
local all, granted, answer = {}, true, {1, now}
for i = 1, #KEYS, 3 do
  local a = i + 3 + (i - 1) / 3
  local rpm, tpm, most = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local one = open(i, rpm, tpm)
  one.most, one.cost = most, tonumber(ARGV[a + 3]) * ONE
  local running = -1
  if most > 0 or tpm > 0 then redis.call('ZREMRANGEBYSCORE', one.runs, '-inf', now) end
  if most > 0 then
    running = redis.call('ZCARD', one.runs)
    granted = granted and running < most
  end
  if rpm > 0 then granted = granted and one.ro + ONE <= rpm * ONE end
  if tpm > 0 then granted = granted and one.to + one.th + one.cost <= tpm * ONE end
  all[#all + 1] = one
  answer[#answer + 1] = rpm > 0 and one.ro or -1
  answer[#answer + 1] = tpm > 0 and one.to + one.th or -1
  answer[#answer + 1] = running
end
for _, one in ipairs(all) do
  if granted then
    if one.rpm > 0 then one.ro = one.ro + ONE end
    if one.tpm > 0 then
      one.n = one.n + 1
      one.th = one.th + one.cost
      redis.call('HSET', one.hash, id, one.cost)
      redis.call('ZADD', one.order, one.n, id)
    end
    if one.tpm > 0 or one.most > 0 then redis.call('ZADD', one.runs, now + lease, id) end
  end
  close(one)
end
if not granted then answer[1] = 0 end
return answer
"""

#: ARGV: of each name an id, tpm, the tokens that it reserved and those that it used (-1: as many).
_SETTLE = """
for i = 1, #KEYS, 3 do
  local a = i + (i - 1) / 3
  local id, tpm, cost = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]) * ONE
  local used = tonumber(ARGV[a + 3]) * ONE
  if redis.call('ZREM', KEYS[i + 1], id) == 1 and tpm > 0 then
    local one = open(i, 0, tpm)
    local left = tonumber(redis.call('HGET', one.hash, id)) or 0
    redis.call('HDEL', one.hash, id)
    redis.call('ZREM', one.order, id)
    one.th = one.th - left
    if used < 0 then used = cost end
    local leaked = cost - left
    if used > leaked then one.to = owe(one.to, used - leaked, tpm) end
    close(one)
  end
end
return 1
"""

#: KEYS: of one name. ARGV: ms until they lapse, then ids.
_RENEW = """
local until_ = now + tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[2], until_, ARGV[i]) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], KEEP) end
return 1
"""

#: KEYS: of one name, and one that this is remembered by: a second time adds nothing. ARGV: rpm,
#: tpm; what its meters get; what was in them when it was last seen and has not drained, which
#: counts where Redis has forgotten all of it.
_ADD = """
if not redis.call('SET', KEYS[4], 1, 'NX', 'PX', KEEP) then return 0 end
local forgot = redis.call('EXISTS', KEYS[1]) == 0
local one = open(1, tonumber(ARGV[1]), tonumber(ARGV[2]))
if forgot then
  one.ro, one.to = tonumber(ARGV[5]), tonumber(ARGV[6])
end
if one.rpm > 0 then one.ro = owe(one.ro, tonumber(ARGV[3]), one.rpm) end
if one.tpm > 0 then one.to = owe(one.to, tonumber(ARGV[4]), one.tpm) end
close(one)
return 1
"""


def take(now: str = NOW) -> str:
    return now + _METERS + _TAKE


def settle(now: str = NOW) -> str:
    return now + _METERS + _SETTLE


def renew(now: str = NOW) -> str:
    return now + _METERS + _RENEW


def add(now: str = NOW) -> str:
    return now + _METERS + _ADD


def keys(prefix: str, name: str) -> tuple[str, str, str]:
    """Of one limited name."""
    return f"{prefix}limit:{name}", f"{prefix}limit-runs:{name}", f"{prefix}limit-holds:{name}"


def added(prefix: str, id: str) -> str:
    """What one ADD is remembered by."""
    return f"{prefix}limit-added:{id}"
