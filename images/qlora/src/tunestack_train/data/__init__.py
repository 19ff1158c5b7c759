"""Training data: rows out of files, examples out of rows, tokens with labels out of examples."""
