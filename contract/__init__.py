"""What training writes and serving reads: errors, pictures, bundles, the repository of bundles."""
