"""Labelled images from wherever they are, as arrays with a fixed split; augmentation."""
