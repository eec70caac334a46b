"""`kernelscope look`: the page about one image as a file that needs no server."""
