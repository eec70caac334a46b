"""Metrics, logs and traces."""

import os

# an inherited variable would make prometheus_client keep its figures in files of a folder that is somebody else's; it
# decides as it is imported
for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(_name, None)
