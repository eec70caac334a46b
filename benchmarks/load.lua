-- wrk's side: the same request again and again; prints a line of JSON at the end.
-- Environment: BENCH_BODY (a file), BENCH_TYPE (its content type), BENCH_HEADER (one more header, "Name: value").
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = os.getenv("BENCH_TYPE")
file:close()
local name, value = (os.getenv("BENCH_HEADER") or ""):match("([^:]+): (.+)")
if name then wrk.headers[name] = value end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p90": %.3f, "p99": %.3f, "max": %.3f}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
