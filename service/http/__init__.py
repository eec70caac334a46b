"""HTTP below the routes: connections, bodies, errors, API keys, the access log, deadlines."""
