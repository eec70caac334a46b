"""Images in, probabilities out, over HTTP. Never imports TensorFlow or anything of `training`."""
