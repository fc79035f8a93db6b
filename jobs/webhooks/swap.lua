-- Put a message of a webhook in place of what it was; nothing where it is no longer that.
-- KEYS: 1 the job's webhook  2 messages of webhooks by when they are due  3 counters
-- ARGV: 1 the message's id  2 the message as it was  3 as it is now  4 <job>/<message>
--       5 seconds until it is due ('' never)  6 counter ('' none)  7 the receiver wants no more: 'yes', 'no', ''
--       8 'claim': only if it is due now
-- Returns 1, or 0 when it was changed meanwhile, or is not due.
local there = redis.call('HGET', KEYS[1], ARGV[1])
if there == ARGV[3] then
  return 1 -- the very same write came twice: its first answer was lost on the way
end
if there ~= ARGV[2] then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
if ARGV[8] == 'claim' and tonumber(redis.call('ZSCORE', KEYS[2], ARGV[4]) or 'inf') > now then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[2], ARGV[4])
else
  redis.call('ZADD', KEYS[2], now + ARGV[5], ARGV[4])
end
if ARGV[6] ~= '' then
  redis.call('HINCRBY', KEYS[3], ARGV[6], 1)
end
if ARGV[7] == 'yes' then
  redis.call('HSET', KEYS[1], 'gone', '1')
elseif ARGV[7] == 'no' then
  redis.call('HDEL', KEYS[1], 'gone')
end
return 1
