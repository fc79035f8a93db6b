-- The jobs whose lease has run out by the store's own clock.
-- KEYS: 1 leases
local clock = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', tonumber(clock[1]) + tonumber(clock[2]) / 1000000)
