-- Forget an ended job; all or nothing.
-- KEYS: 1 record  2 all jobs  3 index of its status  4 events  5 owners  6 its webhook  7 leases  8 waiting
-- ARGV: 1 record as it was  2 id  3 channel
-- Behind both, what belongs to the owner: owned.lua.
-- Returns 1, or 0 when the record is no longer what it was.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[4], KEYS[6])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[2])
redis.call('ZREM', KEYS[8], ARGV[2])
forget_for_owner()
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1
