-- Let requests of one key in, as many as its minute has room for; note that it was used; say which jobs are its.
-- The minute slides: of the requests of the clock minute before, as large a share counts as the last sixty
-- seconds reach back into it. Requests that are refused do not count.
-- KEYS: 1 keys  2 last uses  3 the key's rate  4 the key's jobs
-- ARGV: 1 key  2 requests that ask  3 requests a minute (0: any number), then ids of jobs
-- Returns {record ('' when there is no such key), let in, left in this minute (-1: any number),
--          milliseconds until one more is let in (0: at once), then 1 or 0 for each id}.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then
  return {'', 0, 0, 0}
end
if now - tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) >= 60 then
  redis.call('HSET', KEYS[2], ARGV[1], clock[1])
end

local limit, asked = tonumber(ARGV[3]), tonumber(ARGV[2])
local let_in, left, wait = asked, -1, 0
if limit > 0 then
  local minute, share = math.floor(now / 60), (now % 60) / 60
  local held = redis.call('HMGET', KEYS[3], 'minute', 'count', 'before')
  local count, before = 0, 0
  if tonumber(held[1]) == minute then
    count, before = tonumber(held[2]), tonumber(held[3])
  elseif tonumber(held[1]) == minute - 1 then
    before = tonumber(held[2])
  end
  local room = math.max(0, math.floor(limit - count - before * (1 - share)))
  let_in = math.min(asked, room)
  count, left = count + let_in, room - let_in
  redis.call('HSET', KEYS[3], 'minute', minute, 'count', count, 'before', before)
  redis.call('EXPIRE', KEYS[3], 120)
  if left == 0 then
    if count < limit then
      wait = (1 - (limit - 1 - count) / before - share) * 60
    else
      wait = (1 - share) * 60 + (1 - (limit - 1) / count) * 60
    end
    wait = math.max(1, math.ceil(wait * 1000))
  end
end

local reply = {record, let_in, left, wait}
for i = 4, #ARGV do
  reply[#reply + 1] = redis.call('ZSCORE', KEYS[4], ARGV[i]) and 1 or 0
end
return reply
