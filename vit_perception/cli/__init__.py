"""The console script ``vit-perception``: one file per subcommand."""
