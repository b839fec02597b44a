"""LunarLander with the same numbers, to the bit, and half the Python around its physics.

Gymnasium's own environment makes the world and resets it; only the step is written anew, with plain
floats. It serves training; every final evaluation is played on the stock environment, so that each
run checks this one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from math import cos, isfinite, pi, sin, sqrt, tanh
from pathlib import Path
from typing import Any, Final, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lander.config import EnvConfig
from lander.env import time_limit_of
from lander.interface import CheckedEnv
from lander.terminal import say

MODULE: Final = "gymnasium.envs.box2d.lunar_lander"
ENTRY_POINT: Final = f"{MODULE}:LunarLander"
MODES: Final[dict[str, dict[str, Any]]] = {
    "LunarLander-v3": {},
    "LunarLanderContinuous-v3": {"continuous": True},
}
"""Gymnasium's ids, and the arguments that it registers with each."""
ARGUMENTS: Final = {"continuous", "gravity", "enable_wind", "wind_power", "turbulence_power"}
"""Arguments of the environment that the step here obeys."""
CHECKED: Final = {"d8978e0e020fbe922f93d7c4f98cde573ba2175ca2014cc7d87eb4223e82c93a": "1.4.0"}
"""SHA-256 of the sources of Gymnasium's lunar_lander.py with which the step here was compared over
200,000 steps, and a version that has each."""
BOX2D: Final = "2.3.10"
"""The version of Box2D with which it was compared."""

Physics = Literal["lean", "stock", "envpool"]
"""Who computes the steps of training: this module, the stock environment itself, or EnvPool."""

Answer = tuple[tuple[float, ...], float, bool, bool]
"""Of a step: observation, reward, terminated, truncated."""

FPS: Final = 50
SCALE: Final = 30.0
"""Pixels of the picture per unit of length."""
HALF_WIDTH: Final = 600 / SCALE / 2
HALF_HEIGHT: Final = 400 / SCALE / 2
BLOCK: Final = 256
"""Random numbers drawn at once."""


def training_physics(env: EnvConfig) -> Physics:
    """Who computes the steps of a training on `env` here: "lean" only where that is known to give
    the numbers of the stock environment."""
    if env.backend == "envpool":
        return "envpool"
    if not is_own(env):
        return "stock"
    if unchecked():
        warn_unchecked()
        return "stock"
    return "lean"


def is_own(env: EnvConfig) -> bool:
    """Whether this is Gymnasium's LunarLander, neither replaced nor wrapped by its user."""
    spec = gym.registry.get(env.id)
    return (
        env.id in MODES
        and spec is not None
        and spec.entry_point == ENTRY_POINT
        and spec.kwargs == MODES[env.id]
        and not spec.additional_wrappers
        and {name for name, _ in env.kwargs} <= ARGUMENTS
    )


@cache
def unchecked() -> str:
    """Which installed package is none that the step here was compared with; empty if all are."""
    source = Path(gym.__file__).parent / "envs" / "box2d" / "lunar_lander.py"
    if not (source.is_file() and sha256(source.read_bytes()).hexdigest() in CHECKED):
        return f"the LunarLander of Gymnasium {gym.__version__}"
    try:
        return "" if version("box2d") == BOX2D else f"Box2D {version('box2d')}"
    except PackageNotFoundError:
        return "this Box2D"


@cache
def warn_unchecked() -> None:
    """Say, once per process, why training steps the stock environment."""
    say(
        f"lander: {unchecked()} was not compared with the faster physics of lander/lunar.py: "
        "training uses stock Gymnasium, with the same results but slower",
        error=True,
    )


class LeanLander:
    """A stock LunarLander whose steps are computed here, and its resets without a seed."""

    def __init__(self, env: CheckedEnv) -> None:
        self.stock = env.stock
        self.require_finite, self.close = env.require_finite, env.close
        self._env = env
        self._limit = time_limit_of(env.stock) or sys.maxsize
        self._send: Callable[[Any], Answer]

    def reset(self, seed: int | None = None) -> NDArray[Any]:
        """The first observation of an episode; without a seed only after an episode has ended, or
        after the generator was set."""
        if seed is None:
            self._env.steps = 0
            row = restart(self.stock.unwrapped)
        else:
            row = self._env.reset(seed)
        steps = episode(self.stock.unwrapped, self._limit)
        next(steps)
        self._send = steps.send
        return row

    def step(self, action: NDArray[Any] | np.generic) -> Answer:
        """Observation, reward, terminated, truncated."""
        self._env.steps += 1
        answer = self._send(action.tolist())
        if not isfinite(answer[1]):
            raise self._env.fault(f"the reward is {answer[1]}, want a finite number")
        return answer


def under(physics: Physics, env: CheckedEnv) -> CheckedEnv | LeanLander:
    """A copy whose steps are computed in the given way."""
    return LeanLander(env) if physics == "lean" else env


@cache
def shapes() -> tuple[Any, Any, Any, Any]:
    """What every world is made of: the craft, a leg, and a piece of ground with its edge."""
    box2d, its = import_module("Box2D.b2"), import_module(MODULE)
    hull = box2d.polygonShape(vertices=[(x / SCALE, y / SCALE) for x, y in its.LANDER_POLY])
    leg = box2d.polygonShape(box=(its.LEG_W / SCALE, its.LEG_H / SCALE))
    bits = {"maskBits": 0x001, "restitution": 0.0}
    edge = box2d.edgeShape()
    return (
        box2d.fixtureDef(shape=hull, density=5.0, friction=0.1, categoryBits=0x0010, **bits),
        box2d.fixtureDef(shape=leg, density=1.0, categoryBits=0x0020, **bits),
        box2d.fixtureDef(shape=edge, density=0, friction=0.1),
        edge,
    )


def restart(env: Any) -> NDArray[np.float32]:
    """Reset as stock does without a seed, in half the time: shapes are made once, and what only
    pictures need is left out. Returns the first observation, (8,)."""
    box2d, its = import_module("Box2D.b2"), import_module(MODULE)
    hull, foot, ground, edge = shapes()
    width, height, draw = 2 * HALF_WIDTH, 2 * HALF_HEIGHT, env.np_random.uniform
    env._destroy()
    env.world = world = box2d.world(gravity=(0, env.gravity))
    world.contactListener_keepref = world.contactListener = its.ContactDetector(env)
    env.game_over, env.prev_shaping, env.helipad_y = False, None, height / 4
    heights = draw(0, height / 2, 12)
    heights[3:8] = env.helipad_y
    smooth = 0.33 * (np.roll(heights, 1)[:-1] + heights[:-1] + heights[1:])
    points = [(width / 10 * i, y) for i, y in enumerate(smooth.tolist())]
    env.moon = world.CreateStaticBody(shapes=box2d.edgeShape(vertices=[(0, 0), (width, 0)]))
    for edge.vertices in pairwise(points):
        env.moon.CreateFixture(ground)
    env.lander = world.CreateDynamicBody(position=(HALF_WIDTH, height), fixtures=hull)
    power = its.INITIAL_RANDOM
    env.lander.ApplyForceToCenter((draw(-power, power), draw(-power, power)), True)
    if env.enable_wind:
        env.wind_idx, env.torque_idx = (env.np_random.integers(-9999, 9999) for _ in range(2))
    env.legs = []
    for side in (-1, 1):
        away = side * its.LEG_AWAY / SCALE
        leg = world.CreateDynamicBody(
            position=(HALF_WIDTH - away, height), angle=side * 0.05, fixtures=foot
        )
        leg.ground_contact = False
        world.CreateRevoluteJoint(
            bodyA=env.lander,
            bodyB=leg,
            localAnchorA=(0, 0),
            localAnchorB=(away, its.LEG_DOWN / SCALE),
            enableMotor=True,
            enableLimit=True,
            maxMotorTorque=its.LEG_SPRING_TORQUE,
            motorSpeed=0.3 * side,
            lowerAngle=0.9 - 0.5 if side == -1 else -0.9,
            upperAngle=0.9 if side == -1 else -0.9 + 0.5,
        )
        env.legs.append(leg)
    row: NDArray[np.float32] = env.step(np.zeros(2) if env.continuous else 0)[0]
    return row


def episode(env: Any, limit: int) -> Generator[Answer, Any]:
    """The steps of one episode after a reset: each is sent its action, and yields its answer.

    Every operation on floats is the stock environment's, in its order. Particles of the engines
    are left out: they exist only where pictures are made.
    """
    lander, world, continuous = env.lander, env.world, env.continuous
    left, right = env.legs
    position, velocity = lander.position, lander.linearVelocity  # both follow the body
    generator = env.np_random
    before = generator.bit_generator.state
    noise = dispersions(generator)
    wind = gusts(env) if env.enable_wind else None
    ground = env.helipad_y + 18 / SCALE
    shaping, angle = float(env.prev_shaping), lander.angle
    answer: Any = None
    for steps in range(1, limit + 1):
        action = yield answer
        if wind is not None and not (left.ground_contact or right.ground_contact):
            force, torque = next(wind)
            lander.ApplyForceToCenter((force, 0.0), True)
            lander.ApplyTorque(torque, True)
        forward, sideways = next(noise), next(noise)
        if continuous:
            main, side = action
            direction = 1.0 if side > 0.0 else -1.0
            side *= direction
            main_power = ((main if main < 1.0 else 1.0) + 1.0) * 0.5 if main > 0.0 else 0.0
            side_power = (side if side < 1.0 else 1.0) if side > 0.5 else 0.0
        else:
            if not 0 <= action <= 3:
                env.step(np.int64(action))  # refuses it
            direction = action - 2
            main_power = 1.0 if action == 2 else 0.0
            side_power = 1.0 if action == 1 or action == 3 else 0.0
        if main_power or side_power:
            s, c = sin(angle), cos(angle)
            x, y = position.x, position.y
            if main_power:
                down = 4 / SCALE + 2 * forward
                dx = s * down + -c * sideways
                dy = -c * down - s * sideways
                lander.ApplyLinearImpulse(
                    (-dx * 13.0 * main_power, -dy * 13.0 * main_power), (x + dx, y + dy), True
                )
            if side_power:
                away = 3 * sideways + direction * 12 / SCALE
                dx = s * forward + -c * away
                dy = -c * forward - s * away
                lander.ApplyLinearImpulse(
                    (-dx * 0.6 * side_power, -dy * 0.6 * side_power),
                    (x + dx - s * 17 / SCALE, y + dy + c * 14 / SCALE),
                    True,
                )
        world.Step(1.0 / FPS, 180, 60)
        angle = lander.angle
        x = (position.x - HALF_WIDTH) / HALF_WIDTH
        y = (position.y - ground) / HALF_HEIGHT
        vx = velocity.x * HALF_WIDTH / FPS
        vy = velocity.y * HALF_HEIGHT / FPS
        on_left = 1.0 if left.ground_contact else 0.0
        on_right = 1.0 if right.ground_contact else 0.0
        earlier, shaping = (
            shaping,
            -100 * sqrt(x * x + y * y)
            - 100 * sqrt(vx * vx + vy * vy)
            - 100 * abs(angle)
            + 10 * on_left
            + 10 * on_right,
        )
        reward = shaping - earlier - main_power * 0.30 - side_power * 0.03
        terminated = False
        if env.game_over or abs(x) >= 1.0:
            terminated, reward = True, -100.0
        if not lander.awake:
            terminated, reward = True, 100.0
        spin = 20.0 * lander.angularVelocity / FPS
        answer = (x, y, vx, vy, angle, spin, on_left, on_right), reward, terminated, steps == limit
        if terminated or steps == limit:
            generator.bit_generator.state = before
            generator.random(2 * steps)  # as far as the stock environment would have drawn
            yield answer


def dispersions(generator: np.random.Generator) -> Iterator[float]:
    """Deviations of the engines' thrust, drawn in blocks: one by one takes 20 times as long."""
    while True:
        yield from (generator.uniform(-1.0, 1.0, BLOCK) / SCALE).tolist()


def gusts(env: Any) -> Iterator[tuple[float, float]]:
    """Force and torque of the wind, step by step."""
    i, j = int(env.wind_idx), int(env.torque_idx)
    while True:
        force = tanh(sin(0.02 * i) + sin(pi * 0.01 * i)) * env.wind_power
        torque = tanh(sin(0.02 * j) + sin(pi * 0.01 * j)) * env.turbulence_power
        yield force, torque
        i, j = i + 1, j + 1
