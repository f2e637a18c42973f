-- Sends the bodies of a file in turn, and prints what came of it as one line of JSON.
-- The file: for each body its length in bytes, a newline, the body, a newline.
-- BENCH_BODIES, BENCH_PATH, BENCH_HEADERS ("name: value" lines) and BENCH_SLOW come from
-- bench/load.py.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long us; } moment; int gettimeofday(moment *, void *);")

local requests = {}
local turn = 0
local thread

setup = function(one)
   thread = one
end

local function now_us()
   local moment = ffi.new("moment")
   ffi.C.gettimeofday(moment, nil)
   return tonumber(moment.s) * 1e6 + tonumber(moment.us)
end

-- wrk calls this once it has set the Host header.
init = function(_)
   local headers = {}
   for name, value in pairs(wrk.headers) do headers[name] = value end
   for name, value in os.getenv("BENCH_HEADERS"):gmatch("([^:\n]+): ([^\n]+)") do
      headers[name] = value
   end
   local path = os.getenv("BENCH_PATH")
   local file = assert(io.open(os.getenv("BENCH_BODIES"), "rb"))
   local length = file:read("*n")
   while length do
      file:read(1)
      requests[#requests + 1] = wrk.format("POST", path, headers, file:read(length))
      length = file:read("*n")
   end
   file:close()
   start_us = now_us()  -- a global, as done() reads it from another state
end

request = function()
   turn = turn % #requests + 1
   return requests[turn]
end

-- The span ends with the last answer where a server gives few of them: what it was working on
-- when the clock ran out, a batch of each worker, is a tenth of all that a slow model does in ten
-- seconds. A fast server has no response() on purpose: it makes wrk parse every header, and the
-- load generator shares the cores with the server.
if os.getenv("BENCH_SLOW") == "1" then
   response = function()
      last_us = now_us()
   end
end

done = function(summary, latency, _)
   local errors = summary.errors
   local last_us = thread:get("last_us")
   local span_us = last_us and last_us - thread:get("start_us") or summary.duration
   io.write(string.format(
      '{"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, '
         .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
      summary.requests, span_us, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
