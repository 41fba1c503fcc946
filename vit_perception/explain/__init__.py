"""What a model does with one picture: shapes and attention measured by running it, and the figure of them."""
