"""What the documentation site has beside docs/, made from the code and the tree at build time."""
