"""PPO for LunarLander, from scratch: env -> policy -> runner -> agent -> trainer.

Nothing is imported here, as torch takes seconds to load: import from the module, for example
`from lander.trainer import train`.
"""
