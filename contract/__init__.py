"""What training writes and serving reads: errors, images, bundles, the repository of bundles."""
