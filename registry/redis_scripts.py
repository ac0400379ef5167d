"""What is decided inside Redis: whether a batch still holds, and what time it is there.

Each script is one step that nothing comes between. Who may register, what a beat means and when a
lease ends is decided by `registry.draft` alone; `COMMIT` refuses a decision that others overtook,
and an expiry of what was heard meanwhile, so that the same rules never stand in two languages.

    KEYS  meta    a hash: schema, epoch, revision, seq (batches so far), stamp (names the last one)
          records a hash: a service as JSON            beats   a sorted set: heard last, in ms
          retired a hash: name NUL instance_id → lease drained a set of names
          changes a stream: one entry per batch, its id `<seq>-0`, bounded
"""

KEYS = ("meta", "records", "beats", "retired", "drained", "changes")

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_WRITE = """
for _, one in ipairs(ops.put) do redis.call('HSET', KEYS[2], one[1], one[2]) end
for _, name in ipairs(ops.drop) do
  redis.call('HDEL', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
end
for _, name in ipairs(ops.beaten) do redis.call('ZADD', KEYS[3], now, name) end
for _, one in ipairs(ops.retire) do redis.call('HSET', KEYS[4], one[1], one[2]) end
for _, life in ipairs(ops.unretire) do redis.call('HDEL', KEYS[4], life) end
for _, name in ipairs(ops.drain) do redis.call('SADD', KEYS[5], name) end
for _, name in ipairs(ops.undrain) do redis.call('SREM', KEYS[5], name) end
"""

#: ARGV: epoch, seq, stamp that were decided upon; the new stamp and revision; channel, origin;
#: entries kept in `changes`; the news; the writes as MessagePack; until when its asker waits.
#: Answers `ok`, `behind`, `late`, or `beaten` with names and how many ms ago each was heard.
COMMIT = (
    """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'stamp')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then return {'behind'} end
"""
    + _NOW
    + """
-- it was told that nothing was done: this stood still meanwhile
if now > tonumber(ARGV[11]) then return {'late', now} end
local ops = cmsgpack.unpack(ARGV[10])
local heard = {}
for _, one in ipairs(ops.silent) do
  local beat = tonumber(redis.call('ZSCORE', KEYS[3], one[1]) or nil)
  if beat then
    if beat > now then  -- the clock was set back: it counts as heard now, never as heard forever
      beat = now
      redis.call('ZADD', KEYS[3], now, one[1])
    end
    if now - beat < one[2] then
      heard[#heard + 1] = one[1]
      heard[#heard + 1] = now - beat
    end
  end
end
if #heard > 0 then return {'beaten', now, heard} end
"""
    + _WRITE
    + """
local seq = meta[2] + 1
redis.call('HSET', KEYS[1], 'revision', ARGV[5], 'seq', seq, 'stamp', ARGV[4])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[8], seq .. '-0',
  'before', ARGV[3], 'stamp', ARGV[4], 'news', ARGV[9])
redis.call('PUBLISH', ARGV[6], cjson.encode({origin = ARGV[7], seq = seq}))
return {'ok', now}
"""
)

#: ARGV: channel, the message with names and loads for the other registries, then the names.
#: A service that is gone is not brought back. Answers the store's time.
BEATS = (
    _NOW
    + """
for i = 3, #ARGV do redis.call('ZADD', KEYS[3], 'XX', now, ARGV[i]) end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return now
"""
)

#: ARGV: epoch, seq, stamp as they were seen ('' for none); the new epoch, revision, stamp; schema,
#: channel, origin; the writes. Starts an epoch with just these; answers 0 where another did.
RENEW = (
    """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'stamp')
if (meta[1] or '') ~= ARGV[1] or (meta[2] or '') ~= ARGV[2] or (meta[3] or '') ~= ARGV[3] then
  return 0
end
"""
    + _NOW
    + """
local ops = cmsgpack.unpack(ARGV[10])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
"""
    + _WRITE
    + """
redis.call('HSET', KEYS[1], 'schema', ARGV[7], 'epoch', ARGV[4], 'revision', ARGV[5],
  'seq', 0, 'stamp', ARGV[6])
redis.call('PUBLISH', ARGV[8], cjson.encode({origin = ARGV[9], seq = 0}))
return 1
"""
)

#: KEYS: one key. ARGV: who asks, for how many ms. 1 where it has the duty, or takes it over.
DUTY = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
