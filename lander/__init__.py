"""PPO for LunarLander, from scratch: env -> policy -> runner -> agent -> trainer."""

from lander.agent import Divergence as Divergence
from lander.config import EnvConfig as EnvConfig
from lander.config import PolicyConfig as PolicyConfig
from lander.config import PPOConfig as PPOConfig
from lander.config import TrainConfig as TrainConfig
from lander.evaluation import Evaluation as Evaluation
from lander.evaluation import evaluate as evaluate
from lander.fields import ConfigError as ConfigError
from lander.policy import ActorCritic as ActorCritic
from lander.policy import DeterministicActor as DeterministicActor
from lander.resolve import resolve as resolve
from lander.trainer import Progress as Progress
from lander.trainer import TrainResult as TrainResult
from lander.trainer import train as train
