"""`vit-perception watch`: the node's topics, as a Rerun viewer shows them."""
