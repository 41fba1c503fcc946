"""Video as a camera sends it over topics: packets in, pictures with their own stamps out."""
