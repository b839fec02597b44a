"""Workers, who starts them, and who watches them."""
