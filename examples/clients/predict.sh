#!/bin/sh
# What is in an image, with curl: predict.sh cat.jpg [http://localhost:8000]
# The form may be the image itself, too: --data-binary @cat.jpg -H 'Content-Type: image/jpeg'. With a key:
# -H "Authorization: Bearer $KERNELSCOPE_API_KEY". --retry waits as Retry-After says.
set -eu
exec curl --silent --show-error --fail-with-body --retry 4 --max-time 30 \
  ${KERNELSCOPE_API_KEY:+-H "Authorization: Bearer $KERNELSCOPE_API_KEY"} \
  -F "file=@$1" "${2:-http://localhost:8000}/predict?top_k=1"
