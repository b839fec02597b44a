"""PPO for LunarLander, from scratch: env -> policy -> runner -> agent -> trainer."""

from importlib import import_module
from typing import TYPE_CHECKING

from lander.config import EnvConfig, PolicyConfig, PPOConfig, TrainConfig
from lander.errors import ConfigError
from lander.resolve import resolve

__all__ = [
    "ActorCritic",
    "ConfigError",
    "DeterministicActor",
    "Divergence",
    "EnvConfig",
    "Evaluation",
    "PPOConfig",
    "PolicyConfig",
    "Progress",
    "TrainConfig",
    "TrainResult",
    "evaluate",
    "resolve",
    "train",
]

if TYPE_CHECKING:
    from lander.agent import Divergence
    from lander.evaluation import Evaluation, evaluate
    from lander.policy import ActorCritic, DeterministicActor
    from lander.trainer import Progress, TrainResult, train
else:
    # torch takes seconds to load: what needs it is imported when it is asked for (PEP 562), so that
    # `python -m lander --help` answers at once
    HOMES = {
        "Divergence": "lander.agent",
        "Evaluation": "lander.evaluation",
        "evaluate": "lander.evaluation",
        "ActorCritic": "lander.policy",
        "DeterministicActor": "lander.policy",
        "Progress": "lander.trainer",
        "TrainResult": "lander.trainer",
        "train": "lander.trainer",
    }

    def __getattr__(name: str) -> object:
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
