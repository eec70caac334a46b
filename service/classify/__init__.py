"""`kernelscope classify`: any number of images to Parquet, on all cores, resumed where it was interrupted."""
