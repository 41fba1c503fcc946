"""Camera messages in, uint8 network input out, and the geometry between patches and source
pixels.
"""
