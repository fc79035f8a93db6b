-- Renew a lease, by the store's own clock, unless the job has been given to another run meanwhile.
-- A lease that ran out and that nobody has taken is renewed too.
-- KEYS: 1 owners  2 leases
-- ARGV: 1 id  2 owner and token  3 seconds
-- Returns 1, or 0 when the job is no longer this run's.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[2], tonumber(clock[1]) + tonumber(clock[2]) / 1000000 + tonumber(ARGV[3]), ARGV[1])
return 1
