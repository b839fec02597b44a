"""A config as other frameworks' PPO takes it, and what of it they have nothing like.

One module per framework. Every field is carried over with its exact meaning, or is named in a
comment of the text; `lander.export.fields` makes the comments.
"""
