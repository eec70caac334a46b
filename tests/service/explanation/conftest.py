from tests.support.subjects import cat, images, quantised, recipe, shipped  # noqa: F401
