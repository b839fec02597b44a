"""The best policy: chosen on fresh episodes, measured on others, registered once, flown once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from subprocess import PIPE, Popen

import mlflow
import numpy as np
import pytest
import torch
from mlflow.entities.model_registry import ModelVersion
from optuna.trial import FrozenTrial

from lander.checkpoint import save
from lander.evaluation import Evaluation, evaluate, nothing
from lander.lunar import Physics
from lander.policy import ActorCritic, make_policy
from lander.seeds import CHOICE_SEED, TEST_SEED, seed_range
from sweeps.lifecycle.start import start_sweep
from sweeps.optuna_private import id_of
from sweeps.publish import best_policy
from sweeps.publish.ahead import fly_ahead
from sweeps.publish.best_policy import episodes_of, interval, one_environment, publish_best_policy
from sweeps.publish.flights import CHOICE, Candidate
from sweeps.publish.policies import TrainedPolicy, policy_of
from sweeps.publish.publish import publish
from sweeps.publish.registry import move_alias
from sweeps.run.worker import work
from sweeps.schema import BEST_ALIAS, CONFIRM_SUFFIX, RUN_ID, WARNING
from sweeps.store.best_policy import BestPolicy, recorded_policy
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.old_store import restored
from tests.processes import ROOT, Start, output_of
from tests.studies import GRAVITY, ODD, OLD, TINY, changed
from tests.sweeps.conftest import Command, InterruptAfter, was_interrupted

EPISODES = 5
"""Five times the one episode of a score in the study."""
Table = Mapping[tuple[str, int], tuple[float, float]]
"""Study and trial -> the mean return on its choice and on its test episodes."""


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take seconds to draw."""
    monkeypatch.setattr("sweeps.charts.search.write_figures", lambda *_: [])


def forget(store: Store, name: str = "tiny") -> Sweep:
    """The sweep as before it was published for the first time."""
    client, sweep = store.runs(), open_sweep(store, name)
    if client.search_registered_models(f"name = '{name}'"):
        client.delete_registered_model(name)
    for trial in sweep.read_trials().all:
        for attribute in ("sweeps.choice_returns", "sweeps.test_returns"):
            if attribute in trial.user_attrs:
                store.trials().set_late_attr(trial, attribute, [])
    sweep.optuna.set_user_attr("sweeps.best_policy", None)
    return open_sweep(store, name)


def weights_of(policy: ActorCritic) -> float:
    return sum(float(values.detach().double().sum()) for values in policy.parameters())


def constant(value: float, seeds: Sequence[int]) -> Evaluation:
    """Episodes that all return the same."""
    none = tuple(np.zeros(0) for _ in seeds)
    return Evaluation(tuple(seeds), (value,) * len(seeds), (0,) * len(seeds), none)


@dataclass
class Flights:
    """Stands for `evaluate`: every policy returns on each episode what a table says."""

    table: Table
    trials: Mapping[float, tuple[str, int]]
    """By the sum of their weights."""
    flown: list[tuple[str, int, str]] = field(default_factory=list)
    """Study, trial and purpose of each call."""

    def __call__(
        self,
        policy: ActorCritic,
        env: object,
        *,
        seeds: Sequence[int],
        physics: Physics,
        check: Callable[[], None],
    ) -> Evaluation:
        check()
        assert len(seeds) in (EPISODES, 2 * EPISODES)
        key = self.trials[weights_of(policy)]
        purpose = {CHOICE_SEED: "choice", TEST_SEED: "test"}[seeds[0]]
        self.flown.append((*key, purpose))
        return constant(self.table[key][purpose == "test"], seeds)

    def news(self) -> list[tuple[str, int, str]]:
        """What was flown since the last call."""
        flown, self.flown = self.flown, []
        return sorted(flown)


FlyBy = Callable[[Sweep, Table], Flights]


@pytest.fixture
def fly_by(monkeypatch: pytest.MonkeyPatch) -> FlyBy:
    """Replaces every flight by a table of means."""

    def replace(sweep: Sweep, table: Table) -> Flights:
        trials = {
            weights_of(policy_of(owner, trial).policy): (owner.study.name, trial.number)
            for owner in [open_sweep(sweep.store, name) for name in {name for name, _ in table}]
            for trial in owner.read_trials().all
            if (owner.study.name, trial.number) in table
        }
        flights = Flights(table, trials)
        monkeypatch.setattr("sweeps.publish.flights.evaluate", flights)
        return flights

    return replace


def tiny(*means: tuple[float, float]) -> Table:
    """Choice and test mean of trial 0, 1, .."""
    return {("tiny", number): both for number, both in enumerate(means)}


def published(store: Store, name: str = "tiny") -> tuple[BestPolicy, ModelVersion]:
    """The best policy as recorded, and the version that the alias names."""
    best = recorded_policy(open_sweep(store, name).optuna)
    assert best is not None
    return best, store.runs().get_model_version_by_alias(name, BEST_ALIAS)


def landing(run_id: str) -> str:
    """The picture behind the description of a version."""
    return f"![a landing](get-artifact?path=landing.gif&run_uuid={run_id})"


def trial_of(store: Store, number: int) -> FrozenTrial:
    return open_sweep(store, "tiny").read_trials().all[number]


def test_every_number_is_that_of_an_independent_evaluation(finished: Store) -> None:
    sweep = open_sweep(finished, "tiny")  # published by real flights
    choice, test = dict[int, Evaluation](), dict[int, Evaluation]()
    for trial in sweep.read_trials().all:
        trained = policy_of(sweep, trial)
        for flown, first in ((choice, CHOICE_SEED), (test, TEST_SEED)):
            seeds = seed_range(first, EPISODES)
            flown[trial.number] = evaluate(trained.policy, trained.config.env, seeds=seeds)
        assert trial.user_attrs["sweeps.choice_returns"] == [list(choice[trial.number].returns)]
        metrics = finished.runs().get_run(trial.user_attrs[RUN_ID]).data.metrics
        assert metrics["choice/return_mean"] == choice[trial.number].return_mean
    best, version = published(finished)
    winner = max(choice, key=lambda number: (choice[number].return_mean, -number))
    assert (best.trial, best.compared, best.episodes) == (winner, 2, EPISODES)
    assert best.choice == choice[winner].return_mean
    assert best.test == test[winner].return_mean
    assert best.success_rate == test[winner].success_rate(475)  # CartPole's solved return
    trial = trial_of(finished, winner)
    assert trial.user_attrs["sweeps.test_returns"] == [list(test[winner].returns)]
    assert "sweeps.test_returns" not in trial_of(finished, 1 - winner).user_attrs
    assert version.run_id == best.run_id == trial.user_attrs[RUN_ID]
    run = finished.runs().get_run(sweep.run_id)
    assert run.data.metrics["best_policy/choice"] == best.choice
    assert run.data.metrics["best_policy/test"] == best.test
    assert run.data.metrics["best_policy/success_rate"] == best.success_rate
    assert run.data.tags["sweeps.best_policy"] == str(best)


def test_the_best_on_the_choice_episodes_wins_and_not_the_highest_score(
    finished: Store, fly_by: FlyBy, command: Command, tiny_file: Path
) -> None:
    sweep = forget(finished)
    best = sweep.read_trials().best
    assert best is not None
    other = 1 - best.number
    means = {best.number: (300.0, 490.0), other: (400.0, 480.0)}
    flights = fly_by(sweep, tiny(means[0], means[1]))
    done = command("run", "--study", tiny_file, "--store", finished.folder)
    assert done.returncode == 0, done.stderr
    assert "flying 2 of the best policies on 5 fresh episodes each\n" in done.stdout
    assert flights.news() == sorted(
        [("tiny", 0, "choice"), ("tiny", 1, "choice"), ("tiny", other, "test")]
    )
    line = f"trial {other}, 480.0 on 5 fresh episodes, 100 % success"
    assert f"policy    {line}: models:/tiny@best\n" in done.stdout
    assert f"best      trial {best.number}, " in done.stdout
    policy, version = published(finished)
    assert version.run_id == trial_of(finished, other).user_attrs[RUN_ID] == policy.run_id
    text, _, card = str(version.description).partition("\n\n### Tuning card: tiny\n")
    assert text == (
        f"The policy of trial {other}: the best of 2 policies of the sweep on 5 choice episodes "
        "(reset seeds 6000000 to 6000004), mean return 400.0. On 5 test episodes (reset seeds "
        "4000000 to 4000004), by which nothing was chosen: mean return 480.0 [480.0, 480.0], "
        f"success rate 100 %.\n\n{landing(policy.run_id)}"
    )
    assert "- **search**: 2 trials (2 finished, 0 pruned, 0 failed); 2 trainings, 128 " in card
    assert card.endswith("- **verdict**: not confirmed")
    assert version.tags["sweeps.compared"] == "2"
    assert version.tags["best_policy/test"] == "480.0"
    assert f"; best policy: {line}" in command("status", "--store", finished.folder).stdout
    note = finished.runs().get_run(sweep.run_id).data.tags["mlflow.note.content"]
    assert f"Best policy: trial {other}, 480.0 on 5 fresh episodes" in note


def test_published_again_nothing_is_flown_and_nothing_changes(
    finished: Store, fly_by: FlyBy
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    publish(sweep)
    flights.news()
    before = published(finished)
    publish(sweep)
    publish(open_sweep(Store(finished.folder), "tiny"))  # as another process
    assert flights.news() == []
    again = published(finished)
    assert again[0] == before[0]
    assert dict(again[1]) == dict(before[1])
    assert len(finished.runs().search_model_versions("name = 'tiny'")) == 1


def test_what_is_flown_ahead_is_not_flown_at_the_end(finished: Store, fly_by: FlyBy) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    fly_ahead(sweep, check=nothing)
    assert flights.news() == [("tiny", 0, "choice"), ("tiny", 1, "choice")]
    fly_ahead(sweep, check=nothing)
    assert flights.news() == []
    publish(sweep)
    assert flights.news() == [("tiny", 1, "test")]
    assert published(finished)[0].compared == 2


def test_what_another_process_flies_is_left_to_it(finished: Store, fly_by: FlyBy) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    with claiming(sweep, 1):
        fly_ahead(sweep, check=nothing)
        assert flights.news() == [("tiny", 0, "choice")]
    fly_ahead(sweep, check=nothing)  # as it died
    assert flights.news() == [("tiny", 1, "choice")]


def test_what_was_flown_since_the_trials_were_read_is_not_flown_again(
    finished: Store, fly_by: FlyBy
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    sweep.read_trials()  # which Optuna keeps
    fly_ahead(open_sweep(Store(finished.folder), "tiny"), check=nothing)  # as another process
    flights.news()
    with Candidate(sweep, sweep.read_trials().all[0], 0).claimed(wait=True) as mine:
        assert mine is not None
        assert mine.recorded(CHOICE) == [300.0] * EPISODES
    fly_ahead(sweep, check=nothing)
    assert flights.news() == []


def test_the_first_policy_that_cannot_be_flown_ends_the_flights_ahead(
    finished: Store, fly_by: FlyBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = forget(finished)
    fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    asked = list[int]()

    def unreachable(_sweep: Sweep, trial: FrozenTrial, *, training: int) -> TrainedPolicy:
        asked.append(trial.number)
        raise OSError("the server does not answer")

    monkeypatch.setattr("sweeps.publish.flights.policy_of", unreachable)
    fly_ahead(sweep, check=nothing)
    assert len(asked) == 1


@pytest.mark.parametrize("change", ["a confirmation", "two environments"])
def test_where_no_policies_are_compared_none_is_flown_ahead(
    finished: Store, fly_by: FlyBy, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    if change == "a confirmation":
        sweep = replace(sweep, study=replace(sweep.study, confirms=True))
    else:
        monkeypatch.setattr(best_policy, "one_environment", lambda _: False)
    fly_ahead(sweep, check=nothing)
    assert flights.news() == []


def test_a_worker_flies_only_for_the_command_that_started_it(
    finished: Store, fly_by: FlyBy
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    work(finished, "tiny", index=0, seconds=None)
    assert flights.news() == []
    work(finished, "tiny", index=0, seconds=None, parent=os.getppid())
    assert flights.news() == [("tiny", 0, "choice"), ("tiny", 1, "choice")]


def test_an_interrupted_command_compares_what_has_flown(finished: Store, fly_by: FlyBy) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    publish(sweep, fly=False)
    assert flights.news() == []
    assert published(finished)[0].compared == 0
    with claiming(sweep, 1):
        fly_ahead(sweep, check=nothing)
    publish(sweep, fly=False)
    assert flights.news() == [("tiny", 0, "choice"), ("tiny", 0, "test")]
    publish(sweep)
    assert flights.news() == [("tiny", 1, "choice"), ("tiny", 1, "test")]
    assert published(finished)[0].compared == 2


@contextmanager
def claiming(sweep: Sweep, number: int) -> Generator[None]:
    """Another process claims the policies of this trial, and dies at the end of the block."""
    (trial,) = (trial for trial in sweep.read_trials().all if trial.number == number)
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'ab')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = sweep.store.folder / "flights.lock"
    command = [sys.executable, "-c", script, str(path), str(id_of(trial))]
    with Popen(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.kill()


def test_the_workers_of_a_command_fly_for_its_end(
    store: Store, tiny_file: Path, start: Start
) -> None:
    run = start("sweeps", "run", "--study", tiny_file, "--store", store.folder, "--workers", "2")
    printed = output_of(run)
    assert "flying" not in printed  # nothing was left to fly
    assert published(store)[0].compared == 2
    assert [path.read_text() for path in (store.folder / "logs").iterdir()] == [""] * 2


def test_a_signal_ends_a_flight_ahead_of_the_end(finished: Store, fly_by: FlyBy) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fly_ahead(sweep, check=interrupted)
    assert flights.news() == []
    publish(sweep)
    assert len(flights.news()) == 3


def test_a_resumed_sweep_flies_what_is_new_and_says_what_is_worse(
    finished: Store, fly_by: FlyBy, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = forget(finished)
    fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    publish(sweep)
    start_sweep(read_study(TINY, source=""), finished, trials=4, command=["run"])
    work(finished, "tiny", index=0, seconds=None)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0), (401.0, 470.0), (200.0, 100.0)))
    capsys.readouterr()
    publish(sweep)
    assert flights.news() == [("tiny", 2, "choice"), ("tiny", 2, "test"), ("tiny", 3, "choice")]
    assert (
        "models:/tiny@best moves from trial 1 to trial 2, which returns less on the test episodes: "
        "470.0 against 480.0; on the choice episodes 401.0 against 400.0\n"
    ) in capsys.readouterr().out
    best, version = published(finished)
    assert (best.trial, best.compared, best.test) == (2, 4, 470.0)
    assert version.run_id == trial_of(finished, 2).user_attrs[RUN_ID]
    publish(sweep)
    assert "moves" not in capsys.readouterr().out


def test_of_two_that_fly_alike_the_earlier_trial_is_the_best(
    finished: Store, fly_by: FlyBy
) -> None:
    sweep = forget(finished)
    fly_by(sweep, tiny((300.0, 480.0), (300.0, 490.0)))
    publish(sweep)
    assert published(finished)[0].trial == 0


def test_the_lower_scores_do_not_fly_but_who_holds_the_alias_does(
    finished: Store, fly_by: FlyBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = forget(finished)
    monkeypatch.setattr(best_policy, "LEADERS", 1)
    leader = sweep.read_trials().best
    assert leader is not None
    other = 1 - leader.number
    flights = fly_by(sweep, tiny((300.0, 480.0), (300.0, 480.0)))
    publish(sweep)
    assert flights.news() == [("tiny", leader.number, kind) for kind in ("choice", "test")]
    sweep = forget(finished)
    run_id = trial_of(finished, other).user_attrs[RUN_ID]
    move_alias(
        finished.runs(), sweep, run_id=run_id, alias=BEST_ALIAS, description="of another version"
    )
    means = {leader.number: (300.0, 490.0), other: (301.0, 480.0)}
    flights = fly_by(sweep, tiny(means[0], means[1]))
    publish(sweep)
    assert ("tiny", other, "choice") in flights.news()
    best, version = published(finished)
    assert (best.trial, version.run_id) == (other, run_id)
    assert str(version.description).startswith(f"The policy of trial {other}: the best of 2 ")


def test_a_policy_without_weights_is_left_out_with_a_warning(
    finished: Store, fly_by: FlyBy, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 480.0), (200.0, 490.0)))
    run = finished.runs().get_run(trial_of(finished, 0).user_attrs[RUN_ID])
    Path(run.info.artifact_uri.removeprefix("file://"), "policy.pt").unlink()
    publish(sweep)
    assert flights.news() == [("tiny", 1, "choice"), ("tiny", 1, "test")]
    best, _ = published(finished)
    assert (best.trial, best.compared) == (1, 1)
    warning = "the flight of trial 0 is missing: ConfigError: trial 0 has no policy.pt: "
    assert f"sweeps: warning: {warning}" in capsys.readouterr().err
    assert warning in finished.runs().get_run(sweep.run_id).data.tags[WARNING]


def test_a_version_that_no_trial_has_trained_is_replaced_with_a_warning(
    finished: Store, fly_by: FlyBy, capsys: pytest.CaptureFixture[str]
) -> None:
    client, sweep = finished.runs(), forget(finished)
    fly_by(sweep, tiny((300.0, 480.0), (200.0, 490.0)))
    client.create_registered_model("tiny")
    source = client.get_run(trial_of(finished, 1).user_attrs[RUN_ID]).info.artifact_uri
    client.create_model_version("tiny", f"{source}/policy")
    client.set_registered_model_alias("tiny", BEST_ALIAS, "1")
    publish(sweep)
    assert published(finished)[0].trial == 0
    assert (
        "models:/tiny@best was version 1, which no trial here has trained: it is not compared"
    ) in capsys.readouterr().err


def test_where_nothing_can_be_flown_the_best_trial_is_registered(
    finished: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = forget(finished)
    best_trial = sweep.read_trials().best
    assert best_trial is not None
    monkeypatch.setattr(best_policy, "one_environment", lambda _: False)
    publish(sweep)
    best, version = published(finished)
    assert (best.trial, best.compared, best.test) == (best_trial.number, 0, None)
    assert str(version.description).startswith(
        f"The policy of trial {best_trial.number}, the best by its score: it was compared with no "
        f"other on fresh episodes.\n\n{landing(best.run_id)}\n\n### Tuning card: tiny\n"
    )
    assert str(best) == f"trial {best_trial.number}, not compared with others"
    assert "best_policy/test" not in version.tags


@pytest.mark.parametrize(
    ("text", "comparable"),
    [
        (TINY, True),
        (ODD, False),
        (changed(ODD, {GRAVITY: ""}), True),
        (
            changed(TINY, {'"ppo.learning_rate" =': '"env.time_limit" = { low = 5, high = 9 }\n#'}),
            False,
        ),
        ('[study]\nname = "p"\n[base]\n[points.a]\n"ppo.gamma" = 0.9\n[points.b]\n', True),
        (
            '[study]\nname = "p"\n[base]\n[points.a]\n"env.id" = "CartPole-v1"\n'
            '[points.b]\n"env.id" = "Pendulum-v1"\n',
            False,
        ),
    ],
)
def test_policies_are_compared_where_all_fly_one_environment(text: str, comparable: bool) -> None:
    from tests.lander import odd_envs

    assert odd_envs
    assert one_environment(read_study(text, source="")) == comparable


def test_two_publishers_at_once_fly_and_register_each_policy_once(
    finished: Store, fly_by: FlyBy
) -> None:
    sweep = forget(finished)
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(publish, sweep) for _ in range(2)]:
            done.result()
    assert flights.news() == [("tiny", 0, "choice"), ("tiny", 1, "choice"), ("tiny", 1, "test")]
    assert len(finished.runs().search_model_versions("name = 'tiny'")) == 1


class InterruptAfterWrite(InterruptAfter):
    """Counts only the calls that write."""

    def __call__(self, name: str) -> None:
        if not name.startswith(("get_", "search_", "download_")):
            super().__call__(name)


def test_interrupted_after_any_write_it_ends_as_if_it_was_not(
    finished: Store, fly_by: FlyBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, warnings = open_sweep(finished, "tiny"), list[str]()
    flights = fly_by(sweep, tiny((300.0, 490.0), (400.0, 480.0)))
    policies = {trial.number: policy_of(sweep, trial) for trial in sweep.read_trials().all}
    monkeypatch.setattr(
        "sweeps.publish.flights.policy_of", lambda _, trial, **__: policies[trial.number]
    )

    def choose(sweep: Sweep) -> None:
        publish_best_policy(finished.runs(), sweep, sweep.read_trials(), warnings)

    for number in count(1):
        sweep = forget(finished)
        interrupted = was_interrupted(partial(choose, sweep), InterruptAfterWrite(number))
        choose(sweep)
        best, version = published(finished)
        assert (best.trial, best.test, version.run_id) == (1, 480.0, best.run_id)
        assert len(finished.runs().search_model_versions("name = 'tiny'")) == 1
        assert len(flights.news()) in (3, 4)  # the one that was interrupted is flown again
        assert warnings == []
        if not interrupted:
            break
    assert number > 6


@dataclass(frozen=True)
class Favouring:
    """Stands for `evaluate`: one policy returns 1 on every episode, every other 0."""

    favourite: ActorCritic

    def __call__(
        self, policy: ActorCritic, env: object, *, seeds: Sequence[int], **_: object
    ) -> Evaluation:
        return constant(float(weights_of(policy) == weights_of(self.favourite)), seeds)


def test_each_training_counts_and_that_of_the_best_is_what_the_alias_loads(store: Store) -> None:
    text = changed(TINY, {"trials = 2": "trials = 1\nseeds_per_trial = 3"})
    sweep = start_sweep(read_study(text, source=""), store, trials=None, command=["run"])
    work(store, "tiny", index=0, seconds=None)
    (trial,) = open_sweep(store, "tiny").read_trials().all
    policies = [policy_of(sweep, trial, training=training).policy for training in range(3)]
    median = policy_of(sweep, trial).training
    for wanted in range(3):
        forget(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sweeps.publish.flights.evaluate", Favouring(policies[wanted]))
            publish(sweep)
            publish(sweep)
        best, version = published(store)
        assert (best.training, best.trainings, best.compared) == (wanted, 3, 3)
        assert str(best).startswith(f"trial 0, training {wanted}, 1.0 on 5 fresh episodes")
        assert version.tags["sweeps.training"] == str(wanted)
        assert (best.model_id is None) == (wanted == median)
        mlflow.set_tracking_uri(store.tracking_uri)
        model = mlflow.pytorch.load_model(f"models:/tiny@{BEST_ALIAS}")
        obs = torch.linspace(-1, 1, 400).reshape(100, 4)
        assert torch.equal(model(obs), policies[wanted].act(obs)[1])
        metrics = store.runs().get_run(trial.user_attrs[RUN_ID]).data.metrics
        assert metrics[f"seed_{wanted}/choice/return_mean"] == 1.0
    models = store.runs().search_logged_models([sweep.experiment_id])
    assert len(models) == 3  # one per training, none twice


def test_in_an_older_store_the_policy_that_it_confirmed_is_compared_too(
    tmp_path: Path, fly_by: FlyBy, command: Command
) -> None:
    restored(ROOT / "tests" / "fixtures" / "store-0.1", tmp_path / "mlruns")
    store = Store(tmp_path / "mlruns")
    assert command("doctor", "--store", store.folder).returncode == 0
    sweep, confirm = open_sweep(store, "old"), "old" + CONFIRM_SUFFIX
    held = store.runs().get_model_version_by_alias("old", BEST_ALIAS)
    (holder,) = (
        trial.number
        for trial in open_sweep(store, confirm).read_trials().all
        if trial.user_attrs.get(RUN_ID) == held.run_id
    )
    publish(sweep)  # no weights are in the fixture
    assert store.runs().get_model_version_by_alias("old", BEST_ALIAS).version == held.version
    assert recorded_policy(open_sweep(store, "old").optuna) is None
    table = {("old", 0): (20.0, 1.0), ("old", 4): (60.0, 2.0), (confirm, holder): (70.0, 3.0)}
    for seed, (name, number) in enumerate(table):
        run_id = open_sweep(store, name).read_trials().all[number].user_attrs[RUN_ID]
        (weights,) = store.folder.glob(f"artifacts/*/{run_id}/artifacts/policy.pt")
        policy = make_policy(sweep.study.base, generator=torch.Generator().manual_seed(seed))
        save(weights, policy.state_dict(), sweep.study.base)
    flights = fly_by(sweep, table)
    publish(sweep)
    assert {(study, trial) for study, trial, _ in flights.news()} == set(table)
    best, version = published(store, "old")
    assert (best.study, best.trial, best.compared, best.test) == (confirm, holder, 3, 3.0)
    assert str(best) == f"trial {holder} of {confirm}, 3.0 on 10 fresh episodes, 0 % success"
    assert version.version == held.version
    assert "best of 3 policies" in str(version.description)
    assert "best policy: trial" in command("status", "--store", store.folder).stdout


def test_a_sweep_flies_a_hundred_episodes_or_five_times_those_of_a_score() -> None:
    texts = [changed(TINY, {"final_episodes = 1": f"final_episodes = {n}"}) for n in (1, 20, 300)]
    assert [episodes_of(read_study(text, source="")) for text in texts] == [5, 100, 100]
    assert episodes_of(read_study(OLD, source="")) == 10


def test_the_interval_is_students() -> None:
    assert interval([7.0]) == (None, None)
    ends = interval([0.0, 2.0])  # standard error 1, t of one degree of freedom 12.7062
    assert ends == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-4)
