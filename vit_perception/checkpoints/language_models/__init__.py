"""Image towers of vision-language models, as transformers has them."""
