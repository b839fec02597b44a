"""What a sweep says about itself: a module per question, put together in `examination`."""
