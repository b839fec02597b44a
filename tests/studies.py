"""Every study that tests run or read, as text: one name each, and variants by `changed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def changed(text: str, changes: Mapping[str, str]) -> str:
    """A text in which every key, which must occur in it, is replaced by its value."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the text"
        text = text.replace(old, new)
    return text


def study_text(name: str, *, settings: str = "", base: str = "", space: str = "") -> str:
    """A study of these lines in its three tables."""
    return f'[study]\nname = "{name}"\n{settings}\n[base]\n{base}\n[space]\n{space}\n'


MINI: Final = """
[study]
name = "mini"
trials = 6
seed = 3

[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
"env.num_envs" = 4
"ppo.rollout_steps" = 64
"ppo.minibatch_size" = 256
total_steps = 1_024
checkpoints = 2
eval_episodes = 2
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.update_epochs" = { low = 2, high = 12 }
"ppo.clip_range"    = { low = 0.05, high = 0.4 }
"ppo.gae_lambda"    = { low = 0.9, high = 0.999, one_minus_log = true }
"env.reward_scale"  = { low = 1e-3, high = 1.0, log = true }
"env.bins"          = { choices = [3, 5, 7] }
"policy.trunk"      = { choices = ["separate", "shared"] }
"""
"""The default study in miniature: a trial takes about a second."""

TINY: Final = """
[study]
name = "tiny"
trials = 2
sampler = "random"
pruner = "none"

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 64
"ppo.update_epochs" = 1
total_steps = 64
checkpoints = 1
eval_episodes = 1
final_episodes = 1

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"""
"""The shortest sweep: a trial takes a fraction of a second."""

QUICK: Final = """
[study]
name = "mini"
trials = 3
seed = 3

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 4
"ppo.rollout_steps" = 16
"ppo.minibatch_size" = 64
"ppo.update_epochs" = 1
total_steps = 128
checkpoints = 2
eval_episodes = 1
final_episodes = 1

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.update_epochs" = { low = 1, high = 2 }
"""
"""With checkpoints and a pruner; a trial takes a fraction of a second."""
SHORT: Final = changed(QUICK, {"total_steps = 128": "total_steps = 4_096"})
"""Seconds: long enough to be met while it trains, short enough to be finished."""
ENDLESS: Final = changed(QUICK, {"total_steps = 128": "total_steps = 100_000_000"})
"""Never finished: only a signal ends a trial."""

TWO_SEEDS: Final = """
[study]
name = "real"
trials = 2
seeds_per_trial = 2
pruner = "none"

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 64
total_steps = 256
checkpoints = 2
eval_episodes = 1
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"""
"""Trained for real, so that tables are read from what a sweep records."""

WRITTEN: Final = """
[study]
name = "made"
trials = 1
seeds_per_trial = 2

[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
checkpoints = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.gae_lambda"    = { low = 0.9, high = 0.999, one_minus_log = true }
"policy.head"       = { choices = ["categorical", "gaussian"] }
"env.bins"          = { low = 3, high = 15, step = 2 }
"env.obs_norm"      = { choices = [true, false] }
"env.reward_scale"  = { choices = [0.03, "running"] }
"""
"""Never trained: a test writes its records, with values of every type."""

REPORTED: Final = """
[study]
name = "tiny"
trials = 5
seed = 3
seeds_per_trial = 2
pruner = "none"
sampler = "random"

[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
"env.num_envs" = 4
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 128
"ppo.update_epochs" = 1
total_steps = 256
checkpoints = 2
eval_episodes = 1
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.gae_lambda"    = { low = 0.9, high = 0.999, one_minus_log = true }
"policy.head"       = { choices = ["categorical", "gaussian"] }
"env.bins"          = { choices = [3, 5, 7] }
"""
"""For the report: several seeds per trial, and bins that only one of the heads has."""

PLAIN: Final = """
[study]
name = "plain"
[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
checkpoints = 4
[space]
"ppo.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
"ppo.update_epochs" = { low = 1, high = 20 }
"ppo.gae_lambda"    = { low = 0.9, high = 0.999, one_minus_log = true }
"policy.trunk"      = { choices = ["separate", "shared"] }
"""
"""Every parameter is in every trial."""

HEADS: Final = """
[study]
name = "heads"
[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 5
checkpoints = 4
[space]
"policy.head" = { choices = ["gaussian", "categorical"] }
"env.bins"    = { choices = [3, 5, 7] }
"env.obs_norm" = { choices = [true, false] }
"""
"""One parameter, the bins, is only in trials of one of the heads."""

CONDITIONS: Final = """
[study]
name = "heads"
[base]
"env.id" = "LunarLanderContinuous-v3"
"policy.head" = "ordinal"
"env.bins" = 7
[space]
"env.bins" = { choices = [3, 7] }
"policy.head" = { choices = ["categorical", "ordinal", "joint", "gaussian"] }
"policy.std" = { choices = ["learned", "decayed"] }
"policy.final_std" = { low = 0.05, high = 0.3 }
"ppo.value_clip" = { low = 0.1, high = 1.0 }
"""
"""Parameters that act under conditions, some of them two levels deep."""

WIDTHS: Final = """
[study]
name = "widths"
sampler = "random"
pruner = "none"
trials = 2
[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 4
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 64
total_steps = 256
checkpoints = 2
eval_episodes = 1
final_episodes = 1
[space]
"policy.hidden_sizes" = { choices = [[64, 64], [16]] }
"ppo.kl_stop" = { choices = ["none", 0.03] }
"""
"""Choices that are lists, and one that is None."""

TWO_HOSTS: Final = """
[study]
name = "demo"
trials = 12
seed = 1

[base]
"env.id" = "CartPole-v1"
total_steps = 20_000
checkpoints = 4
eval_episodes = 5
final_episodes = 20

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.update_epochs" = { low = 2, high = 10 }
"""
"""For `make demo-cluster`: long enough that a second host joins."""

CUT_OFF: Final = """
[study]
name = "cut"
trials = 12
seed = 1
pruner = "none"

[base]
"env.id" = "CartPole-v1"
total_steps = 300_000
checkpoints = 20
eval_episodes = 2
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"""
"""A trial takes about twenty seconds, so that some are left when a lost host is back."""

BENCH: Final = """
[study]
name = "tiny"
trials = 4
pruner = "none"

[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
total_steps = 8_192
checkpoints = 2
eval_episodes = 2
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"ppo.update_epochs" = { low = 2, high = 12 }
"ppo.clip_range"    = { low = 0.05, high = 0.4 }
"ppo.gae_lambda"    = { low = 0.9, high = 0.999, one_minus_log = true }
"env.reward_scale"  = { low = 1e-3, high = 1.0, log = true }
"env.bins"          = { choices = [3, 5, 7, 9, 11, 15] }
"""
"""Trials of two seconds, long enough for everything that a trial does to happen once."""

ONE_TRIAL: Final = """
[study]
name = "one"
trials = 1

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"ppo.rollout_steps" = 64
"ppo.minibatch_size" = 64
total_steps = 128
checkpoints = 1
eval_episodes = 1
final_episodes = 1

[space]
"ppo.clip_range" = { low = 0.05, high = 0.4 }
"""
"""A trial takes a fraction of a second, and its parameter is not the learning rate."""

WIND: Final = '"env.kwargs.wind" = true'
GRAVITY: Final = '"env.kwargs.gravity" = { low = 0.5, high = 2.0 }'
ODD: Final = f"""
[study]
name = "odd"
trials = 3

[base]
"env.id" = "odd/Plain-v0"
"env.num_envs" = 2
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 32
"policy.hidden_sizes" = [8]
total_steps = 128
checkpoints = 2
eval_episodes = 2
final_episodes = 3
{WIND}

[space]
"ppo.update_epochs" = {{ low = 1, high = 20 }}
{GRAVITY}
"""
"""An environment of the tests, with keyword arguments that are set and searched."""

OLD: Final = """
[study]
name = "old"
trials = 8
seed = 5
sampler = "random"
pruner = "median"

[pruner]
n_startup_trials = 1

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 8
"ppo.rollout_steps" = 512
"ppo.minibatch_size" = 1024
"ppo.update_epochs" = 1
"ppo.learning_rate" = 0.001
"policy.hidden_sizes" = [16]
total_steps = 12_288
checkpoints = 3
eval_episodes = 1
final_episodes = 2

[space]
"ppo.learning_rate" = { choices = [0.001, 0.01, 1e37] }
"ppo.gamma" = { low = 0.9, high = 0.999 }
"""
"""For `tests.old_store`: trials that are pruned, and trials that diverge, are among eight."""
LATE: Final = changed(TINY, {'"tiny"': '"late"', "trials = 2": "trials = 1"})
"""For `tests.old_store`: its only trial is not delivered."""

SHOWN: Final = """
[study]
name = "shown"
trials = 4
seed = 3
pruner = "none"

[base]
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 7
"env.time_limit" = 200
"env.num_envs" = 4
"ppo.rollout_steps" = 64
"ppo.minibatch_size" = 256
total_steps = 1_024
checkpoints = 2
eval_episodes = 2
final_episodes = 2

[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"env.bins"          = { choices = [3, 5, 7] }
"""
"""For the pages: short flights, of which a confirmation takes hundreds."""
