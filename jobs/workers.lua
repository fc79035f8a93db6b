-- The workers that live, by the store's own clock, so that clocks of machines may differ.
-- KEYS: 1 workers (member: worker, score: when it counts as dead)
-- ARGV: 1 worker that says that it lives ('' to only ask)  2 seconds until it counts as dead (0: it stops)
-- Returns the living workers.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
if ARGV[1] ~= '' then
  if tonumber(ARGV[2]) > 0 then
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
  else
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
