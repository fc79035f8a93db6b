-- What belongs to a job's owner; runs before commit.lua or delete.lua, in one script with it.
-- The last six KEYS: 1 the owner's jobs  2 those of the old status  3 those of the new status
--                    4 those that have not ended  5 bytes stored, by owner  6 a claim (jobs/claims.py)
-- The last of ARGV, as JSON: owner ('' none), id, bytes (as text; how many more), ended,
--                    active (most jobs that have not ended; 0 any number), claim {running, done, seconds}
local own = cjson.decode(ARGV[#ARGV])
local theirs = #KEYS - 6

-- Why the change may not be made; nil where it may.
local function owner_refuses()
  if own.claim and redis.call('GET', KEYS[theirs + 6]) ~= own.claim.running then
    return {'unclaimed'}
  end
  if own.owner ~= '' and own.active > 0 and not own.ended
    and not redis.call('ZSCORE', KEYS[theirs + 4], own.id)
    and redis.call('ZCARD', KEYS[theirs + 4]) >= own.active then
    return {'full'}
  end
end

local function note_for_owner()
  if own.claim then
    redis.call('SET', KEYS[theirs + 6], own.claim.done, 'EX', own.claim.seconds)
  end
  if own.owner == '' then
    return
  end
  redis.call('ZADD', KEYS[theirs + 1], 0, own.id)
  if KEYS[theirs + 2] ~= KEYS[theirs + 3] then
    redis.call('ZREM', KEYS[theirs + 2], own.id)
  end
  redis.call('ZADD', KEYS[theirs + 3], 0, own.id)
  redis.call(own.ended and 'ZREM' or 'ZADD', KEYS[theirs + 4], unpack(own.ended and {own.id} or {0, own.id}))
  if own.bytes ~= '0' then
    redis.call('HINCRBY', KEYS[theirs + 5], own.owner, own.bytes)
  end
end

local function forget_for_owner()
  if own.owner == '' then
    return
  end
  redis.call('ZREM', KEYS[theirs + 1], own.id)
  redis.call('ZREM', KEYS[theirs + 2], own.id)
  redis.call('ZREM', KEYS[theirs + 4], own.id)
  if redis.call('HINCRBY', KEYS[theirs + 5], own.owner, own.bytes) <= 0 then
    redis.call('HDEL', KEYS[theirs + 5], own.owner)
  end
end

