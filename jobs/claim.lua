-- Keep or give up a claim that is still this request's.
-- KEYS: 1 the claim    ARGV: 1 what it must hold  2 milliseconds for which it stays (0: it is given up)
-- Returns 1, or 0 when it is not this request's (any more).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
