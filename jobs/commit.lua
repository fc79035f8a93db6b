-- Put a new version of a job's record in place of the one it was made from; all or nothing.
-- KEYS: 1 record  2 all jobs  3 index of the old status  4 index of the new status  5 events  6 totals
--       7 owners  8 the job's webhook  9 messages of webhooks by when they are due  10 leases  11 waiting
-- ARGV: 1 record as it was ('' for a new job)  2 the new record  3 id  4 events kept
--       5 lease, as JSON: what ('keep', 'take', 'drop', 'lapsed': drop, but only one that has run out),
--         owner (and token), seconds, place (among the waiting; '' it does not wait)
--       6 channel  7 the webhook's secret ('' none)
--       8 number of totals, the totals (`name`, or `name=5` that counts up by five); number of messages, id and JSON of each; type and JSON of each event
-- Behind both, what belongs to the owner: owned.lua.
-- Returns {'ok', event ids}, {'changed', the record as it is now ('' when it is gone)}, {'held'} where the
-- lease has not run out, or what the owner's limits or claim refuse: {'full'}, {'unclaimed'}.
local now = redis.call('GET', KEYS[1]) or ''
if now == ARGV[2] then
  return {'ok'} -- the very same write came twice: its first answer was lost on the way
end
if now ~= ARGV[1] then
  return {'changed', now}
end
local clock = redis.call('TIME')
local time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local lease = cjson.decode(ARGV[5])
local ends = redis.call('ZSCORE', KEYS[10], ARGV[3])
if lease.what == 'lapsed' and ends and tonumber(ends) > time then
  return {'held'}
end
local refusal = owner_refuses()
if refusal then
  return refusal
end

redis.call('SET', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
if KEYS[3] ~= KEYS[4] then
  redis.call('ZREM', KEYS[3], ARGV[3])
end
redis.call('ZADD', KEYS[4], 0, ARGV[3])
note_for_owner()
if lease.what == 'take' then
  redis.call('HSET', KEYS[7], ARGV[3], lease.owner)
  redis.call('ZADD', KEYS[10], time + lease.seconds, ARGV[3])
elseif lease.what ~= 'keep' then
  redis.call('HDEL', KEYS[7], ARGV[3])
  redis.call('ZREM', KEYS[10], ARGV[3])
end
if lease.place == '' then
  redis.call('ZREM', KEYS[11], ARGV[3])
else
  redis.call('ZADD', KEYS[11], lease.place, ARGV[3])
end

local at = 9
for _ = 1, tonumber(ARGV[at - 1]) do
  local name, by = string.match(ARGV[at], '^(.*)=(%d+)$')
  redis.call('HINCRBY', KEYS[6], name or ARGV[at], by or 1)
  at = at + 1
end

if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[8], 'secret', ARGV[7])
end
at = at + 1
for _ = 1, tonumber(ARGV[at - 1]) do
  redis.call('HSET', KEYS[8], ARGV[at], ARGV[at + 1])
  redis.call('ZADD', KEYS[9], clock[1], ARGV[3] .. '/' .. ARGV[at])
  at = at + 2
end

local bound = tonumber(ARGV[4])
local reply = {'ok'}
for i = at, #ARGV - 1, 2 do
  if redis.call('XLEN', KEYS[5]) >= bound then
    -- Thin out: every second of those that come by themselves goes, the newest stays. Costs `bound` once in
    -- bound/2 appends.
    local gone, odd = {}, true
    for _, entry in ipairs(redis.call('XRANGE', KEYS[5], '-', '+')) do
      if entry[2][2] == 'progress' or entry[2][2] == 'checkpoint' then
        if odd then gone[#gone + 1] = entry[1] end
        odd = not odd
      end
    end
    for j = 1, #gone, 1000 do
      redis.call('XDEL', KEYS[5], unpack(gone, j, math.min(j + 999, #gone)))
    end
    redis.call('XTRIM', KEYS[5], 'MAXLEN', bound)
  end
  reply[#reply + 1] = redis.call('XADD', KEYS[5], '*', 'type', ARGV[i], 'json', ARGV[i + 1])
end
redis.call('PUBLISH', ARGV[6], ARGV[3])
return reply
