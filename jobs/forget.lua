-- Forget what is left of a job that has no record; nothing where it has one.
-- KEYS: 1 record  2 events  3 webhook  4 workers by job, then the sorted sets that may name it
-- ARGV: 1 id
-- Returns how many keys and entries went.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local gone = redis.call('DEL', KEYS[2], KEYS[3]) + redis.call('HDEL', KEYS[4], ARGV[1])
for i = 5, #KEYS do
  gone = gone + redis.call('ZREM', KEYS[i], ARGV[1])
end
return gone
