"""Presets of papers and of other projects say what these say.

The tables are written by hand from the sources that the presets name, in the sources' units: emulator frames where they
count these, agent steps else. Nothing in them is read from conf/.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dqn.compose import CONF
from dqn.config import Config, UniformMemoryConfig
from dqn.experiment import build_trainer, make_traits

STEP = 1
FRAME = 1 / 4  # of an agent step, at an action repeat of 4
MEAN = 1 / 32  # what a sum over a batch of 32 is to be multiplied with

TD, DOUBLE = {"kind": "dqn", "double": False}, {"kind": "dqn", "double": True}
C51 = {"kind": "c51", "double": False, "num_atoms": 51, "min_value": -10, "max_value": 10}
QR_DQN = {"kind": "qr_dqn", "double": False, "num_quantiles": 200, "threshold": 1}
FRACTIONS = {
    "num_fractions": 64,
    "num_target_fractions": 64,
    "num_acting_fractions": 32,
    "num_cosines": 64,
    "threshold": 1,
}
IQN = {"kind": "iqn", "double": False, **FRACTIONS}
MUNCHAUSEN = {"kind": "munchausen_dqn", "alpha": 0.9, "temperature": 0.03, "min_log_policy": -1}

HUBER, SQUARED, HALF_SQUARED = ("huber", 1), ("mse", 1), ("mse", 0.5)
UNIFORM = {"kind": "uniform"}
PROPORTIONAL = {"kind": "prioritized", "priority_exponent": 0.6, "uniform_share": 0, "normalization": "batch"}
ROOTS = {**PROPORTIONAL, "priority_exponent": 0.5}
RANKS = {**PROPORTIONAL, "kind": "ranked", "priority_exponent": 0.7}

# Nature's minimum of the squared gradient is that of a sum over the batch; in the square, a mean counts twice.
DEEPMIND = {"kind": "rmsprop_centered", "decay": 0.95, "epsilon_in_root": 0.01 * MEAN**2}
DEEPMIND_QUARTER = {**DEEPMIND, "epsilon_in_root": 0.01 * MEAN**2 / 4**2}  # learning rate / 4, the same largest step
TENSORFLOW = {"kind": "rmsprop_centered", "decay": 0.95, "epsilon_in_root": 1e-5}


def adam(epsilon: float) -> dict[str, Any]:
    return {"kind": "adam", "beta1": 0.9, "beta2": 0.999, "epsilon": epsilon}


# Exploration: what epsilon (or the temperature) is at some points of training.
FROM_1_TO_TENTH = [(0, 1), (200e3 * FRAME, 1), (2.2e6 * FRAME, 0.55), (4.2e6 * FRAME, 0.1), (200e6 * FRAME, 0.1)]
FROM_1_TO_HUNDREDTH = [(0, 1), (200e3 * FRAME, 1), (2.2e6 * FRAME, 0.505), (4.2e6 * FRAME, 0.01), (200e6 * FRAME, 0.01)]
DOPAMINE = [(0, 1), (20e3 * STEP, 1), (145e3 * STEP, 0.505), (270e3 * STEP, 0.01), (50e6 * STEP, 0.01)]

# fmt: off
PAPERS = {
    "preset":            ["dqn_nips2013", "dqn_nature2015", "double_dqn", "double_dqn_tuned", "dueling"],
    "network":           ["nips_cnn", "nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn"],
    "head":              ["linear", "linear", "linear", "shared_bias", "dueling"],
    "initialization":    ["torch", "torch", "torch", "torch", "torch"],
    "algorithm":         [TD, TD, DOUBLE, DOUBLE, DOUBLE],
    "loss":              [HALF_SQUARED, HUBER, HUBER, HUBER, HUBER],
    "discount":          [0.99, 0.99, 0.99, 0.99, 0.99],
    "learning rate":     [2.5e-4, 2.5e-4, 2.5e-4, 2.5e-4, 6.25e-5],
    "optimizer":         [DEEPMIND, DEEPMIND, DEEPMIND, DEEPMIND, DEEPMIND],
    "gradient norm":     [None, None, None, None, 10],
    "batch":             [32, 32, 32, 32, 32],
    "update every":      [1 * STEP, 4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP],
    "updates at once":   [1, 1, 1, 1, 1],
    "memory":            [1e6, 1e6, 1e6, 1e6, 1e6],
    "warm-up":           [200e3 * FRAME, 200e3 * FRAME, 200e3 * FRAME, 200e3 * FRAME, 200e3 * FRAME],
    "priorities":        [UNIFORM, UNIFORM, UNIFORM, UNIFORM, UNIFORM],
    "importance":        [None, None, None, None, None],
    "n-step":            [1, 1, 1, 1, 1],
    "target":            [None, 40e3 * FRAME, 40e3 * FRAME, 120e3 * FRAME, 40e3 * FRAME],
    "exploration":       [
        [(0, 1), (0.5e6 * STEP, 0.55), (1e6 * STEP, 0.1), (10e6 * STEP, 0.1)],
        FROM_1_TO_TENTH, FROM_1_TO_TENTH, FROM_1_TO_HUNDREDTH, FROM_1_TO_HUNDREDTH,
    ],
    "evaluation epsilon": [0.05, 0.05, 0.05, 0.01, 0.001],
    "length":            [10e6 * STEP, 200e6 * FRAME, 200e6 * FRAME, 200e6 * FRAME, 200e6 * FRAME],
    "evaluation every":  [1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME],
    "final episodes":    [30, 30, 30, 30, 30],
    "exports":           ["best", "best", "best", "best", "best"],
    "cap is terminal":   [False, False, False, False, False],
    "action repeat":     [4, 4, 4, 4, 4],
    "sticky actions":    [0, 0, 0, 0, 0],
    "no-ops at most":    [0, 30, 30, 30, 30],
    "FIRE":              [False, False, False, False, False],
    "life is an episode": [False, True, True, True, True],
    "rewards clipped":   [True, True, True, True, True],
    "frame":             [(84, 84), (84, 84), (84, 84), (84, 84), (84, 84)],
    "stack":             [4, 4, 4, 4, 4],
    "frames pooled":     [False, True, True, True, True],
    "cap in frames":     [108_000, 108_000, 108_000, 108_000, 108_000],
    "evaluation's cap":  [108_000, 18_000, 18_000, 108_000, 108_000],
}
DESCENDANTS = {
    "preset":            ["prioritized", "prioritized_ranked", "c51", "qr_dqn", "munchausen_dqn"],
    "network":           ["nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn"],
    "head":              ["shared_bias", "shared_bias", "linear", "linear", "linear"],
    "initialization":    ["torch", "torch", "torch", "torch", "xavier_uniform"],
    "algorithm":         [DOUBLE, DOUBLE, C51, QR_DQN, MUNCHAUSEN],
    "loss":              [HUBER, HUBER, None, None, HUBER],
    "discount":          [0.99, 0.99, 0.99, 0.99, 0.99],
    "learning rate":     [2.5e-4 / 4, 2.5e-4 / 4, 2.5e-4, 5e-5, 5e-5],
    "optimizer":         [DEEPMIND_QUARTER, DEEPMIND_QUARTER, adam(0.01 / 32), adam(0.01 / 32), adam(3.125e-4)],
    "gradient norm":     [None, None, None, None, None],
    "batch":             [32, 32, 32, 32, 32],
    "update every":      [16 * FRAME, 16 * FRAME, 16 * FRAME, 16 * FRAME, 4 * STEP],
    "updates at once":   [1, 1, 1, 1, 1],
    "memory":            [1e6, 1e6, 1e6, 1e6, 1e6],
    "warm-up":           [200e3 * FRAME, 200e3 * FRAME, 200e3 * FRAME, 200e3 * FRAME, 20e3 * STEP],
    "priorities":        [PROPORTIONAL, RANKS, UNIFORM, UNIFORM, UNIFORM],
    "importance":        [
        [(0, 0.4), (100e6 * FRAME, 0.7), (200e6 * FRAME, 1)], [(0, 0.5), (100e6 * FRAME, 0.75), (200e6 * FRAME, 1)],
        None, None, None,
    ],
    "n-step":            [1, 1, 1, 1, 1],
    "target":            [120e3 * FRAME, 120e3 * FRAME, 40e3 * FRAME, 40e3 * FRAME, 8e3 * STEP],
    "exploration":       [FROM_1_TO_HUNDREDTH, FROM_1_TO_HUNDREDTH, FROM_1_TO_HUNDREDTH, FROM_1_TO_HUNDREDTH, DOPAMINE],
    "evaluation epsilon": [0.01, 0.01, 0.001, 0.001, 0.001],
    "length":            [200e6 * FRAME, 200e6 * FRAME, 200e6 * FRAME, 200e6 * FRAME, 50e6 * STEP],
    "evaluation every":  [1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME, 250e3 * STEP],
    "final episodes":    [30, 30, 30, 30, 32],
    "exports":           ["best", "best", "best", "best", "best"],
    "cap is terminal":   [False, False, False, False, True],
    "action repeat":     [4, 4, 4, 4, 4],
    "sticky actions":    [0, 0, 0, 0, 0.25],
    "no-ops at most":    [30, 30, 30, 30, 0],
    "FIRE":              [False, False, False, False, False],
    "life is an episode": [True, True, True, True, False],
    "rewards clipped":   [True, True, True, True, True],
    "frame":             [(84, 84), (84, 84), (84, 84), (84, 84), (84, 84)],
    "stack":             [4, 4, 4, 4, 4],
    "frames pooled":     [True, True, True, True, True],
    "cap in frames":     [108_000, 108_000, 108_000, 108_000, 27e3 / FRAME],
    "evaluation's cap":  [108_000, 108_000, 108_000, 108_000, 27e3 / FRAME],
}
# Noisy layers, implicit quantiles, and several ideas in one agent.
COMBINED = {
    "preset":            ["noisy", "rainbow", "iqn", "munchausen_iqn", "dopamine_rainbow"],
    "network":           ["nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn"],
    "head":              ["linear", "dueling", "linear", "linear", "linear"],
    "noise":             [0.5, 0.5, None, None, None],
    "initialization":    ["torch", "torch", "torch", "torch", "torch"],
    "algorithm":         [TD, {**C51, "double": True}, IQN, {**MUNCHAUSEN, **FRACTIONS, "kind": "munchausen_iqn"}, C51],
    "loss":              [HUBER, None, None, None, None],
    "discount":          [0.99, 0.99, 0.99, 0.99, 0.99],
    "learning rate":     [2.5e-4, 6.25e-5, 5e-5, 5e-5, 6.25e-5],
    "optimizer":         [DEEPMIND, adam(1.5e-4), adam(0.01 / 32), adam(3.125e-4), adam(1.5e-4)],
    "gradient norm":     [None, None, None, None, None],
    "batch":             [32, 32, 32, 32, 32],
    "update every":      [16 * FRAME, 16 * FRAME, 16 * FRAME, 4 * STEP, 4 * STEP],
    "updates at once":   [1, 1, 1, 1, 1],
    "memory":            [1e6, 1e6, 1e6, 1e6, 1e6],
    "warm-up":           [200e3 * FRAME, 80e3 * FRAME, 50e3 * STEP, 20e3 * STEP, 20e3 * STEP],
    "priorities":        [UNIFORM, ROOTS, UNIFORM, UNIFORM, ROOTS],
    "priority offset":   [None, 1e-6, None, None, 1e-10],
    "importance":        [
        None, [(0, 0.4), (100e6 * FRAME, 0.7), (200e6 * FRAME, 1)], None, None, [(0, 0.5), (50e6 * STEP, 0.5)],
    ],
    "n-step":            [1, 3, 1, 1, 3],
    "target":            [40e3 * FRAME, 32e3 * FRAME, 10e3 * STEP, 8e3 * STEP, 8e3 * STEP],
    "explores by":       ["greedy", "greedy", "epsilon_greedy", "epsilon_greedy", "epsilon_greedy"],
    "exploration":       [
        [(0, 0), (200e6 * FRAME, 0)], [(0, 0), (200e6 * FRAME, 0)],
        [(0, 1), (50e3 * STEP, 1), (550e3 * STEP, 0.505), (1050e3 * STEP, 0.01), (50e6 * STEP, 0.01)],
        DOPAMINE, DOPAMINE,
    ],
    "evaluation epsilon": [0.001, 0.001, 0.001, 0.001, 0.001],
    "length":            [200e6 * FRAME, 200e6 * FRAME, 200e6 * FRAME, 50e6 * STEP, 50e6 * STEP],
    "evaluation every":  [1e6 * FRAME, 1e6 * FRAME, 1e6 * FRAME, 250e3 * STEP, 250e3 * STEP],
    "final episodes":    [30, 200, 30, 32, 32],
    "exports":           ["best", "best", "best", "best", "best"],
    "cap is terminal":   [False, False, False, True, True],
    "action repeat":     [4, 4, 4, 4, 4],
    "sticky actions":    [0, 0, 0, 0.25, 0.25],
    "no-ops at most":    [30, 30, 30, 0, 0],
    "FIRE":              [False, False, False, False, False],
    "life is an episode": [True, True, True, False, False],
    "rewards clipped":   [True, True, True, True, True],
    "frame":             [(84, 84), (84, 84), (84, 84), (84, 84), (84, 84)],
    "stack":             [4, 4, 4, 4, 4],
    "frames pooled":     [True, True, True, True, True],
    "cap in frames":     [108_000, 108_000, 108_000, 27e3 / FRAME, 27e3 / FRAME],
    "evaluation's cap":  [108_000, 108_000, 108_000, 27e3 / FRAME, 27e3 / FRAME],
}
PROJECTS = {
    "preset":            [
        "dopamine_dqn", "dopamine_dqn_adam", "cleanrl_dqn", "sb3_zoo_dqn", "keras_rl_dqn", "breakout_keras_rl",
    ],
    "network":           ["nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn", "nature_cnn"],
    "head":              ["linear", "linear", "linear", "linear", "linear", "linear"],
    "initialization":    ["xavier_uniform", "xavier_uniform", "torch", "torch", "xavier_uniform", "xavier_uniform"],
    "algorithm":         [TD, TD, TD, TD, DOUBLE, TD],
    "loss":              [HUBER, SQUARED, SQUARED, HUBER, HUBER, HUBER],
    "discount":          [0.99, 0.99, 0.99, 0.99, 0.99, 0.99],
    "learning rate":     [2.5e-4, 6.25e-5, 1e-4, 1e-4, 2.5e-4, 2.5e-4],
    "optimizer":         [TENSORFLOW, adam(1.5e-4), adam(1e-8), adam(1e-8), adam(1e-7), adam(1e-7)],
    "gradient norm":     [None, None, None, 10, None, None],
    "batch":             [32, 32, 32, 32, 32, 32],
    "update every":      [4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP],
    "updates at once":   [1, 1, 1, 1, 1, 1],
    "memory":            [1e6, 1e6, 1e6, 100e3, 1e6, 1e6],
    "warm-up":           [20e3 * STEP, 20e3 * STEP, 80e3 * STEP, 100e3 * STEP, 50e3 * STEP, 50e3 * STEP],
    "priorities":        [UNIFORM, UNIFORM, UNIFORM, UNIFORM, UNIFORM, UNIFORM],
    "importance":        [None, None, None, None, None, None],
    "n-step":            [1, 1, 1, 1, 1, 1],
    "target":            [8e3 * STEP, 8e3 * STEP, 1e3 * STEP, 1e3 * STEP, 10e3 * STEP, 10e3 * STEP],
    "exploration":       [
        DOPAMINE,
        DOPAMINE,
        [(0, 1), (0.5e6 * STEP, 0.505), (1e6 * STEP, 0.01), (10e6 * STEP, 0.01)],
        [(0, 1), (99_999 * STEP, 1), (100e3 * STEP, 0.901), (0.5e6 * STEP, 0.505), (1e6 * STEP, 0.01)],
        [(0, 1), (0.5e6 * STEP, 0.55), (1e6 * STEP, 0.1), (1.75e6 * STEP, 0.1)],
        [(0, 1), (0.5e6 * STEP, 0.55), (1e6 * STEP, 0.1), (1.75e6 * STEP, 0.1)],
    ],
    "evaluation epsilon": [0.001, 0.001, 0.01, 0.01, 0.05, 0.05],
    "length":            [50e6 * STEP, 50e6 * STEP, 10e6 * STEP, 10e6 * STEP, 1.75e6 * STEP, 1.75e6 * STEP],
    "evaluation every":  [250e3 * STEP, None, None, None, None, None],
    "final episodes":    [32, 32, 10, 55, 10, 10],
    "exports":           ["best", "last", "last", "last", "last", "last"],
    "cap is terminal":   [True, False, False, False, True, True],
    "action repeat":     [4, 4, 4, 4, 4, 4],
    "sticky actions":    [0.25, 0.25, 0, 0, 0, 0],
    "no-ops at most":    [0, 0, 30, 30, 0, 0],
    "FIRE":              [False, False, True, True, False, False],
    "life is an episode": [False, False, True, True, False, False],
    "rewards clipped":   [True, True, True, True, True, True],
    "frame":             [(84, 84), (84, 84), (84, 84), (84, 84), (84, 84), (84, 84)],
    "stack":             [4, 4, 4, 4, 4, 4],
    "frames pooled":     [True, True, True, True, False, False],
    "cap in frames":     [27e3 / FRAME, 27e3 / FRAME, 108_000, 108_000, 108_000, 108_000],
    "evaluation's cap":  [27e3 / FRAME, 27e3 / FRAME, 108_000, 108_000, 108_000, 108_000],
}
CARTPOLE = {
    "preset":            ["cartpole_cleanrl", "cartpole_sb3_zoo", "cartpole_keras_rl", "cartpole_dopamine"],
    "network":           [[120, 84], [256, 256], [16, 16, 16], [512, 512]],
    "activation":        ["relu", "relu", "relu", "relu"],
    "head":              ["linear", "linear", "linear", "linear"],
    "initialization":    ["torch", "torch", "xavier_uniform", "xavier_uniform"],
    "algorithm":         [TD, TD, DOUBLE, TD],
    "loss":              [SQUARED, HUBER, HALF_SQUARED, SQUARED],
    "discount":          [0.99, 0.99, 0.99, 0.99],
    "learning rate":     [2.5e-4, 2.3e-3, 1e-3, 1e-3],
    "optimizer":         [adam(1e-8), adam(1e-8), adam(1e-7), adam(3.125e-4)],
    "gradient norm":     [None, 10, None, None],
    "batch":             [128, 64, 32, 128],
    "update every":      [10, 256, 1, 4],
    "updates at once":   [1, 128, 1, 1],
    "memory":            [10e3, 100e3, 50e3, 50e3],
    "warm-up":           [10e3, 1000, 10, 500],
    "priorities":        [UNIFORM, UNIFORM, UNIFORM, UNIFORM],
    "importance":        [None, None, None, None],
    "n-step":            [1, 1, 1, 1],
    "target":            [500, 10, "0.01 each step", 100],
    "exploration":       [
        [(0, 1), (125e3, 0.525), (250e3, 0.05), (500e3, 0.05)],
        [(0, 1), (999, 1), (1000, 0.88), (4000, 0.52), (8000, 0.04), (50e3, 0.04)],
        [(0, 1), (50e3, 1)],
        [(0, 0.01), (100e3, 0.01)],
    ],
    "explores by":       ["epsilon_greedy", "epsilon_greedy", "boltzmann", "epsilon_greedy"],
    "evaluation epsilon": [0.05, 0, 0, 0.001],
    "length":            [500e3, 50e3, 50e3, 100e3],
    "evaluation every":  [None, None, None, None],
    "final episodes":    [10, 300, 5, 100],
    "exports":           ["last", "last", "last", "last"],
    "cap is terminal":   [False, False, True, False],
    "environment":       ["CartPole-v1", "CartPole-v1", "CartPole-v1", "CartPole-v1"],
    "cap":               [None, None, 200, 200],
}
# fmt: on

ATARI = [name for table in (PAPERS, DESCENDANTS, COMBINED, PROJECTS) for name in table["preset"]]
PUBLISHED = {
    name: {row: values[column] for row, values in table.items() if row != "preset"}
    for table in (PAPERS, DESCENDANTS, COMBINED, PROJECTS, CARTPOLE)
    for column, name in enumerate(table["preset"])
}


def fields(config: Any, *without: str) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in without}


def loss(config: Config) -> tuple[str, float] | None:
    parts = getattr(config.algorithm, "loss", None)
    return None if parts is None else tuple(dataclasses.asdict(parts).values())


def priorities(config: Config) -> dict[str, Any]:
    return {key: value for key, value in fields(config.memory).items() if key in PROPORTIONAL}


def target(config: Config) -> object:
    if config.target.kind == "polyak":
        return f"{config.target.rate} each step"
    return config.target.period_steps if config.target.kind == "hard" else None


def evaluation_cap(config: Config) -> int:
    return config.evaluation.env.get("max_frames_per_episode", config.env.max_frames_per_episode)


def no_ops(config: Config) -> int:
    """ALE draws fewer than its noop_max, 0 for 0."""
    return max(config.env.noop_max - 1, 0)


MEASURED: dict[str, Callable[[Config], Any]] = {
    "network": lambda c: c.network.hidden_sizes if c.network.kind == "mlp" else c.network.kind,
    "activation": lambda c: c.network.activation,
    "head": lambda c: c.network.head.kind,
    "noise": lambda c: c.network.noise_std,
    "initialization": lambda c: c.network.initialization,
    "algorithm": lambda c: fields(c.algorithm, "discount", "loss"),
    "loss": loss,
    "discount": lambda c: c.algorithm.discount,
    "learning rate": lambda c: c.optimizer.learning_rate,
    "optimizer": lambda c: fields(c.optimizer, "learning_rate", "learning_rate_schedule", "max_gradient_norm"),
    "gradient norm": lambda c: c.optimizer.max_gradient_norm,
    "batch": lambda c: c.trainer.batch_size,
    "update every": lambda c: c.trainer.learn_every_steps,
    "updates at once": lambda c: c.trainer.updates_per_learn,
    "memory": lambda c: c.memory.capacity_steps,
    "warm-up": lambda c: c.memory.warmup_steps,
    "replacement": lambda c: c.memory.replacement,
    "priorities": priorities,
    "priority offset": lambda c: getattr(c.memory, "priority_offset", None),
    "n-step": lambda c: c.memory.n_step,
    "target": target,
    "explores by": lambda c: c.exploration.kind,
    "evaluation epsilon": lambda c: c.exploration.evaluation_epsilon,
    "length": lambda c: c.trainer.total_steps,
    "episodes": lambda c: c.trainer.total_episodes,
    "terminal reward": lambda c: c.trainer.terminal_reward,
    "evaluation every": lambda c: c.evaluation.every_steps,
    "final episodes": lambda c: c.evaluation.final_episodes,
    "exports": lambda c: c.export.network,
    "cap is terminal": lambda c: c.trainer.truncation_is_terminal,
    "action repeat": lambda c: c.env.action_repeat,
    "sticky actions": lambda c: c.env.repeat_action_probability,
    "no-ops at most": no_ops,
    "FIRE": lambda c: c.env.fire_on_reset,
    "life is an episode": lambda c: c.env.terminal_on_life_loss,
    "rewards clipped": lambda c: c.env.clip_rewards,
    "frame": lambda c: (c.env.frame_height, c.env.frame_width),
    "stack": lambda c: c.env.frame_stack,
    "frames pooled": lambda c: c.env.max_pool,
    "cap in frames": lambda c: c.env.max_frames_per_episode,
    "evaluation's cap": evaluation_cap,
    "environment": lambda c: c.env.id,
    "cap": lambda c: c.env.max_steps,
}


def along(schedule: Any, points: list[tuple[float, float]] | None) -> Any:
    """What a schedule says at the steps of these points; itself, where there should be none."""
    if schedule is None or points is None:
        return schedule
    none = torch.zeros(1, dtype=torch.int64)
    return [(step, float(schedule(torch.tensor([int(step)]), none))) for step, _ in points]


def agree(published: Any, measured: Any) -> bool:
    """Numbers to rounding, everything else exactly; of nested values each."""
    if isinstance(published, dict):
        return (
            isinstance(measured, dict)
            and published.keys() == measured.keys()
            and all(agree(published[key], measured[key]) for key in published)
        )
    if isinstance(published, list | tuple):
        return (
            isinstance(measured, list | tuple)
            and len(published) == len(measured)
            and all(agree(one, other) for one, other in zip(published, measured, strict=True))
        )
    if isinstance(published, bool) or not isinstance(published, int | float):
        return published == measured
    return isinstance(measured, int | float) and measured == pytest.approx(published, rel=1e-6)


def differing(config: Config, published: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The rows in which a preset is not as published: what was, and what it has."""
    plan = make_traits([config]).plan
    schedules = {"exploration": plan.exploration, "importance": plan.importance_exponent}
    measured = {
        row: along(schedules[row], published[row]) if row in schedules else MEASURED[row](config) for row in published
    }
    return {row: (published[row], measured[row]) for row in published if not agree(published[row], measured[row])}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_values(name, make_config):
    config, published = make_config(f"experiment={name}"), PUBLISHED[name]
    assert not differing(config, published)
    assert config.exploration.kind == published.get("explores by", "epsilon_greedy")
    assert config.network.noise_std == published.get("noise")
    # What no source has: rates that change, another reward at the end, a number of episodes, several environments.
    assert fields(config.optimizer.learning_rate_schedule) == {"kind": "constant", "value": 1}
    assert config.trainer.terminal_reward is None
    assert config.trainer.total_episodes is None
    assert config.env.num_envs == 1


def test_only_keras_rl_draws_without_replacement(make_config):
    configs = {name: make_config(f"experiment={name}") for name in PUBLISHED}
    uniform = {
        name: config.memory for name, config in configs.items() if isinstance(config.memory, UniformMemoryConfig)
    }
    assert [name for name, memory in uniform.items() if not memory.replacement] == [
        "keras_rl_dqn",
        "breakout_keras_rl",
    ]


@pytest.mark.parametrize("name", ATARI)
def test_atari_presets_are_for_any_game(name, make_config):
    seaquest = make_config(f"experiment={name}", "env.game=seaquest")
    assert seaquest == make_config(f"experiment={name}", "env=atari", "env.game=seaquest")
    assert seaquest.env.game == "seaquest"


# Rollouts have tests of their own below.
WITH_REPLAY = [
    path.stem for path in sorted((CONF / "experiment").glob("*.yaml")) if not path.stem.endswith(("pqn", "q_table"))
]
SOME = {"dqn_nips2013", "double_dqn_tuned", "prioritized_ranked", "rainbow", "munchausen_iqn", "cartpole_cleanrl"}


def test_the_gradient_of_the_two_streams_is_scaled_where_the_paper_does(make_config):
    assert make_config("experiment=dueling").network.head.gradient_scale == pytest.approx(0.5**0.5)
    assert make_config("experiment=rainbow").network.head.gradient_scale == 1.0


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in WITH_REPLAY]
)
def test_a_preset_learns(name, make_config):
    """A hundred updates, of little batches and, where they are images, little frames."""
    small = [
        "env.num_envs=1",
        "trainer.total_steps=40",
        "trainer.learn_every_steps=1",
        "trainer.updates_per_learn=10",
        "trainer.batch_size=2",
        "trainer.threads=1",
        "memory.capacity_steps=1000",
        "memory.warmup_steps=31",
        "evaluation.every_steps=null",
        "evaluation.stop.mean_return=null",
        "evaluation.stop.optimal=false",
    ]
    if make_config(f"experiment={name}").env.kind == "atari":
        small += ["env.frame_height=44", "env.frame_width=44"]
    trainer = build_trainer([make_config(f"experiment={name}", *small)])
    before = trainer.parts.learner.parameters.clone()
    learning = [event for event in trainer.run() if type(event).__name__ == "Learning"]
    trainer.close()
    assert trainer.updates.tolist() == [100]
    assert learning[-1].updates == 100
    assert torch.isfinite(trainer.parts.learner.parameters).all()
    assert not torch.equal(trainer.parts.learner.parameters, before)


def test_the_blogs_cartpole_has_the_posts_values(make_config):
    """How many episodes there are the post leaves open; its repository has 1,000 today."""
    published = {
        "network": [128, 128, 128], "activation": "tanh", "head": "linear", "noise": None,
        "initialization": "xavier_uniform", "algorithm": TD, "loss": HALF_SQUARED, "discount": 0.9,
        "learning rate": 1e-4, "optimizer": {"kind": "rmsprop", "decay": 0.9, "epsilon": 1e-8}, "gradient norm": None,
        "batch": 1, "update every": None, "updates at once": 32, "memory": None, "warm-up": 0, "replacement": True,
        "priorities": UNIFORM, "n-step": 1, "target": None, "explores by": "epsilon_greedy", "length": None,
        "episodes": 1000, "terminal reward": -100, "evaluation every": None, "exports": "last", "cap is terminal": True,
        "environment": "CartPole-v1", "cap": 200,
    }  # fmt: skip
    config = make_config("experiment=cartpole_blog")
    assert not differing(config, published)
    assert not config.network.layer_norm
    assert (config.env.kwargs, config.env.num_envs) == ({}, 1)
    assert fields(config.optimizer.learning_rate_schedule) == {"kind": "constant", "value": 1}
    schedule, epsilon = make_traits([config]).plan.exploration, 1.0
    for episodes in range(1000):
        found = schedule(torch.tensor([20 * episodes]), torch.tensor([episodes]))
        assert float(found) == pytest.approx(epsilon, rel=1e-9)
        if epsilon > 0.1:
            epsilon *= 0.995
    assert 0.995 * 0.1 < epsilon <= 0.1


ATARI_PQN = ["pqn", "breakout_pqn"]
# fmt: off
RADAM = {"kind": "radam", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
PQN = {
    "preset":            ["pqn", "cartpole_pqn"],
    "network":           ["nature_cnn", [256, 256]],
    "head":              ["linear", "linear"],
    "noise":             [None, None],
    "initialization":    ["he_normal", "torch"],
    "algorithm":         [{"kind": "pqn"}, {"kind": "pqn"}],
    "loss":              [HALF_SQUARED, HALF_SQUARED],
    "discount":          [0.99, 0.99],
    "learning rate":     [2.5e-4, 1e-4],
    "optimizer":         [RADAM, RADAM],
    "gradient norm":     [10, 10],
    "batch":             [128, 128],
    "memory":            [128 * 32, 32 * 64],
    "update every":      [128 * 32, 32 * 64],
    "updates at once":   [2 * 32, 4 * 16],
    "target":            [None, None],
    "explores by":       ["epsilon_greedy", "epsilon_greedy"],
    "exploration":       [
        [(0, 1), (2.5e6 * STEP, 0.5005), (5e6 * STEP, 0.001), (50e6 * STEP, 0.001)],
        [(0, 1), (50e3, 0.6), (100e3, 0.2), (500e3, 0.2)],
    ],
    "evaluation epsilon": [0, 0],
    "length":            [50e6 * STEP, 500e3],
    "episodes":          [None, None],
    "terminal reward":   [None, None],
}
PQN_ENVIRONMENTS = [
    {
        "action repeat": 4, "sticky actions": 0, "no-ops at most": 30, "life is an episode": True,
        "rewards clipped": True, "frame": (84, 84), "stack": 4, "frames pooled": True, "cap in frames": 108_000,
        "evaluation's cap": 108_000,
    },
    {"activation": "relu", "environment": "CartPole-v1", "cap": None},
]
# fmt: on


@pytest.mark.parametrize("column", [0, 1])
def test_pqn_has_the_published_values(column, make_config):
    config = make_config(f"experiment={PQN['preset'][column]}")
    published = {row: values[column] for row, values in PQN.items() if row != "preset"}
    assert not differing(config, published | PQN_ENVIRONMENTS[column])
    assert config.network.layer_norm
    assert config.memory.trace_decay == (0.65, 0.95)[column]
    assert config.env.num_envs == (128, 32)[column]
    rates = dataclasses.asdict(config.optimizer.learning_rate_schedule)
    assert rates["kind"] == ("constant", "linear")[column]
    assert rates.get("end", 1) == (1, 0)[column]


@pytest.mark.parametrize("name", ["cartpole_pqn", *(pytest.param(n, marks=pytest.mark.long) for n in ATARI_PQN)])
def test_pqn_learns_for_a_hundred_updates(name, make_config):
    words = ["env.num_envs=4", "memory.capacity_steps=40", "trainer.learn_every_steps=40", "trainer.batch_size=2"]
    words += ["trainer.updates_per_learn=20", "trainer.total_steps=200", "evaluation.every_steps=null"]
    words += ["env.frame_height=44", "env.frame_width=44"] if name in ATARI_PQN else []
    trainer = build_trainer([make_config(f"experiment={name}", *words, "trainer.threads=1")])
    before = trainer.parts.learner.parameters.clone()
    list(trainer.run())
    trainer.close()
    assert trainer.updates.tolist() == [100]
    assert torch.isfinite(trainer.parts.learner.parameters).all()
    assert not torch.equal(trainer.parts.learner.parameters, before)


def test_fqf_is_iqn_with_other_fractions(make_config):
    fqf, iqn = (dataclasses.asdict(make_config(f"experiment={name}")) for name in ("fqf", "iqn"))
    assert fqf.pop("algorithm") == {
        "kind": "fqf", "discount": 0.99, "double": False, "num_fractions": 32, "num_cosines": 64, "threshold": 1.0,
        "proposal_rate": 1e-5,
    }  # fmt: skip
    assert {key for key in fqf if fqf[key] != iqn[key]} == {"name"}


def test_the_replay_settings_of_bbf(make_config):
    published = {
        "network": "impala_cnn", "head": "dueling", "algorithm": {**C51, "double": True}, "discount": 0.997,
        "learning rate": 1e-4, "optimizer": adam(1.5e-4), "gradient norm": None, "batch": 32, "update every": STEP,
        "updates at once": 64 // 32, "memory": 200e3, "warm-up": 2000, "priorities": ROOTS, "priority offset": 1e-10,
        "importance": [(0, 0.5), (50e3, 0.5), (100e3, 0.5)], "n-step": 3,
        "target": "0.009975 each step",  # 1 - (1 - 0.005)^2
        "evaluation epsilon": 0.001, "length": 400e3 * FRAME, "final episodes": 100, "exports": "last",
        "sticky actions": 0, "no-ops at most": 30, "life is an episode": True, "rewards clipped": True,
    }  # fmt: skip
    config = make_config("experiment=bbf_replay")
    assert not differing(config, published)
    assert (config.network.width, config.network.hidden_size, config.trainer.random_shift_pixels) == (4, 2048, 4)
    points = [(0, 1.0), (2000, 1.0), (3000.5, 0.5), (4001, 0.0), (100e3, 0.0)]
    levels = [level for _, level in along(make_traits([config]).plan.exploration, points)]
    assert levels == pytest.approx([level for _, level in points], abs=1e-3)
