"""Pictures as people have them, read as upright 8-bit sRGB, with notes on what was converted.

    files      a file, opened by its header: what is too large, damaged or not read is refused
    limit      how many pixels are decoded
    formats    what a file is that is not read, and what to do about it
    spaces     color spaces that are given by numbers
    colors     what a picture says of its colors, and their conversion to sRGB
    decoding   any mode and depth to RGB

Nothing here loads torch.
"""
