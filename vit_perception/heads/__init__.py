"""What sits on the tokens of a Vision Transformer: classification, text and dense heads."""
