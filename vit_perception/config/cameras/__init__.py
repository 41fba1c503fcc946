"""How a camera sends its images: the transports of image_transport that the node takes."""
