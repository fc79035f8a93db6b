-- Keep room for an upload among the bytes that an owner may have stored.
-- KEYS: 1 bytes stored, by owner  2 the owner's uploads (upload -> bytes and when it counts as given up)
-- ARGV: 1 owner  2 upload  3 bytes (0: it has ended)  4 most bytes  5 seconds until it counts as given up
-- Returns the bytes that there is room for, this upload's included; nothing is kept when it wants more.
local now = tonumber(redis.call('TIME')[1])
local taken = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
local uploads = redis.call('HGETALL', KEYS[2])
for i = 1, #uploads, 2 do
  local bytes, until_ = string.match(uploads[i + 1], '(%d+) (%d+)')
  if tonumber(until_) <= now then
    redis.call('HDEL', KEYS[2], uploads[i])
  elseif uploads[i] ~= ARGV[2] then
    taken = taken + tonumber(bytes)
  end
end
local room = tonumber(ARGV[4]) - taken
local wanted = tonumber(ARGV[3])
if wanted == 0 then
  redis.call('HDEL', KEYS[2], ARGV[2])
elseif wanted <= room then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. (now + tonumber(ARGV[5])))
  redis.call('EXPIRE', KEYS[2], 2 * tonumber(ARGV[5]))
end
return string.format('%.0f', room)
