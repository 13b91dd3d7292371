"""The loop: members are independent, Q-learning is Q-learning, and everything happens when it should."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from states import assert_same_state

from dqn.events import End, Episode, Evaluation, Event, Learning, Pause
from dqn.experiment import build_trainer
from dqn.memory.stream import Experience
from dqn.trainer import Trainer

# A plain CartPole run, whatever the preset's own settings are.
PLAIN = (
    "experiment=cartpole",
    "env.num_envs=1",
    "memory.warmup_steps=1000",
    "target=hard",
    "target.period_steps=200",
    "optimizer.learning_rate=1e-3",
    "algorithm=dqn",
    "trainer.learn_every_steps=2",
    "trainer.updates_per_learn=1",
    "trainer.batch_size=16",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.stop.mean_return=null",
)
QUIET = ("logger=none", "evaluation.every_steps=null", "checkpoint.every_steps=null")


def run(trainer: Trainer) -> list[Event]:
    events = list(trainer.run())
    trainer.close()
    return events


# --- a population against lone runs ---

TRAITS = [
    (
        "seed=1 optimizer.learning_rate=1e-3 algorithm.discount=0.9 memory.warmup_steps=20 target.period_steps=30 "
        "exploration.schedule.end=0.5 optimizer.max_gradient_norm=0.5"
    ),
    (
        "seed=2 optimizer.learning_rate=3e-3 algorithm.discount=0.99 memory.warmup_steps=50 target.period_steps=7 "
        "exploration.schedule.start=0.7 trainer.terminal_reward=-5"
    ),
    (
        "seed=3 optimizer.learning_rate=1e-4 algorithm.discount=0.5 memory.warmup_steps=20 target.period_steps=11 "
        "exploration.schedule.duration_steps=50 algorithm.loss.threshold=0.2"
    ),
]
KINDS = {
    "vectors": ["env=cartpole", "env.num_envs=2", "trainer.learn_every_steps=2", "trainer.total_steps=300"],
    "states": ["env=gridworld", "env.start=random", "env.slip_probability=0.2", "trainer.total_steps=260"],
    "learning at episode ends": [
        "env=cartpole",
        "trainer.learn_every_steps=null",
        "trainer.updates_per_learn=16",
        "trainer.total_steps=260",
    ],
    "double Q-learning": ["env=cartpole", "algorithm=double_dqn", "trainer.total_steps=260"],
    "three steps, dueling": ["env=cartpole", "memory.n_step=3", "network/head=dueling", "trainer.total_steps=260"],
    "c51": ["env=cartpole", "algorithm=c51", "algorithm.double=true", "trainer.total_steps=260"],
    "munchausen": ["env=cartpole", "algorithm=munchausen_dqn", "trainer.total_steps=260"],
    "quantiles": ["env=cartpole", "algorithm=qr_dqn", "network/head=shared_bias", "trainer.total_steps=260"],
    "implicit quantiles": ["env=cartpole", "env.num_envs=2", "algorithm=iqn", "trainer.total_steps=460"],
    "proposed fractions": ["env=cartpole", "algorithm=fqf", "algorithm.proposal_rate=1", "trainer.total_steps=260"],
    "munchausen, implicit": ["env=cartpole", "algorithm=munchausen_iqn", "trainer.total_steps=260"],
    "noise": ["env=cartpole", "env.num_envs=2", "network.noise_std=0.5", "trainer.total_steps=460"],
    "rainbow": [
        *("env=cartpole", "algorithm=c51", "algorithm.double=true", "network/head=dueling", "network.noise_std=0.5"),
        *("memory=prioritized", "memory.n_step=3", "trainer.total_steps=260"),
    ],
    "priorities": ["env=cartpole", "memory=prioritized", "memory.uniform_share=0.1", "trainer.total_steps=260"],
    "ranks": ["env=cartpole", "memory=ranked", "memory.rank_every_steps=50", "trainer.total_steps=260"],
}


# What others have parts of.
WITHOUT_LOSS = ("c51", "quantiles", "implicit quantiles", "munchausen, implicit", "proposed fractions", "rainbow")
SELDOM = ("ranks", "priorities", "munchausen, implicit", "double Q-learning", "munchausen")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in SELDOM)) for kind in KINDS])
def test_members_of_a_population_are_the_runs_they_would_be_alone(make_config, kind):
    shared = [*PLAIN, *QUIET, "trainer.batch_size=8", *KINDS[kind]]
    shared += ["trainer.log_every_steps=40", "network.hidden_sizes=[16, 8]"]
    has_priorities = kind in ("priorities", "ranks", "rainbow")
    if not has_priorities:
        shared.append("memory.replacement=false")
    has_loss = kind not in WITHOUT_LOSS
    words = [[word for word in of_one.split() if has_loss or "algorithm.loss" not in word] for of_one in TRAITS]
    configs = [make_config(*shared, *traits) for traits in words]
    population = build_trainer(configs)
    together = run(population)
    assert population.updates.min() >= 100
    for m, config in enumerate(configs):
        lone = build_trainer([config])
        alone = run(lone)
        assert lone.updates[0] == population.updates[m]
        assert lone.steps == population.steps
        for ours, theirs in (
            (population.parts.learner.parameters, lone.parts.learner.parameters),
            (population.parts.learner.target_parameters, lone.parts.learner.target_parameters),
        ):
            torch.testing.assert_close(ours[m], theirs[0], atol=1e-5, rtol=1e-5)
        of_member = [event for event in together if event.member == m]
        assert [e for e in of_member if isinstance(e, Episode)] == [
            Episode(m, e.step, e.episode_return, e.episode_length) for e in alone if isinstance(e, Episode)
        ]
        for ours, theirs in zip(
            [e for e in of_member if isinstance(e, Learning)],
            [e for e in alone if isinstance(e, Learning)],
            strict=True,
        ):
            assert (ours.step, ours.updates, ours.epsilon) == (theirs.step, theirs.updates, theirs.epsilon)
            if theirs.loss is not None:
                assert ours.loss == pytest.approx(theirs.loss, rel=1e-3, abs=1e-5)
                assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3, abs=1e-5)


def test_members_that_learn_from_rollouts_are_the_runs_they_would_be_alone(make_config):
    """One begins later, one has another lambda."""
    shared = ["experiment=cartpole_pqn", *QUIET, "env.num_envs=2", "memory.capacity_steps=20", "trainer.batch_size=4"]
    shared += ["trainer.learn_every_steps=20", "trainer.updates_per_learn=10", "trainer.total_steps=400"]
    traits = [[], ["memory.warmup_steps=100"], ["memory.trace_decay=0.2", "optimizer.learning_rate=1e-3"]]
    configs = [make_config(*shared, f"seed={seed}", *words) for seed, words in enumerate(traits)]
    population = build_trainer(configs)
    run(population)
    assert population.updates.tolist() == [200, 160, 200]
    for m, config in enumerate(configs):
        lone = build_trainer([config])
        run(lone)
        ours, theirs = population.parts.learner.parameters[m], lone.parts.learner.parameters[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("words", [[], ["evaluation.stop.max_value_change=1e-9"]])
def test_a_member_that_has_made_its_episodes_changes_nothing_for_the_others(make_config, words):
    """They end at steps of their own, where one alone is evaluated and reported once more."""
    shared = [*PLAIN, "logger=none", "trainer.total_steps=null", "trainer.total_episodes=12", *words]
    shared += ["evaluation.every_steps=90", "trainer.log_every_steps=70", "memory.warmup_steps=50"]
    shared += ["network.hidden_sizes=[8]"]
    configs = [make_config(*shared, f"seed={seed}") for seed in range(4)]
    population = build_trainer(configs)
    population.endings._shrinks_for_updates = float("inf")  # the last one stays in it, too
    together = run(population)
    ends = {event.member: event.step for event in together if isinstance(event, End)}
    assert len(set(ends.values())) == 4
    for m, config in enumerate(configs):
        ours = [e for e in together if e.member == m]
        alone = [dataclasses.replace(e, member=m) for e in run(build_trainer([config])) if not isinstance(e, Pause)]
        assert [type(e) for e in ours] == [type(e) for e in alone]
        for mine, theirs in zip(ours, alone, strict=True):
            for name, value in vars(theirs).items():
                expected = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
                assert getattr(mine, name) == expected


def test_members_differ(make_config):
    configs = [make_config(*PLAIN, *QUIET, "trainer.total_steps=1100", f"seed={s}") for s in (0, 1)]
    trainer = build_trainer(configs)
    run(trainer)
    assert not torch.allclose(trainer.parts.learner.parameters[0], trainer.parts.learner.parameters[1], atol=1e-2)


# --- the Q-table ---


def test_a_tabular_update_is_the_q_learning_equation(make_config):
    """Every entry after every update, against a Q-learner written out by hand on the same transitions."""
    config = make_config(
        "experiment=gridworld_q_table",
        *QUIET,
        "evaluation.stop.optimal=false",
        "trainer.total_steps=600",
        "evaluation.stop.max_value_change=null",
        "env.max_steps=25",
        "env.slip_probability=0.1",
    )
    trainer = build_trainer([config])
    actions = trainer.parts.environment.spec.num_actions
    alpha, gamma = config.optimizer.learning_rate, config.algorithm.discount
    table = trainer.parts.learner.parameters.view(actions, -1).T.double().numpy().copy()  # (S, A)
    state = None
    add = trainer.parts.memory.add
    tables = []

    def record(experience: Experience) -> None:
        """One step of the hand-written learner before the memory gets the transition."""
        nonlocal state
        next_state = int(experience.frames)
        if not experience.was_reset.item():
            a, r = int(experience.actions), float(experience.rewards)
            target = r + gamma * (0.0 if experience.terminated.item() else table[next_state].max())
            table[state, a] += alpha * (target - table[state, a])
        state = next_state
        tables.append(table.copy())
        add(experience)

    start = trainer.parts.memory.start

    def record_start(frames: torch.Tensor) -> None:
        nonlocal state
        state = int(frames)
        start(frames)

    trainer.parts.memory.add, trainer.parts.memory.start = record, record_start
    update_target = trainer.parts.learner.update_target
    learned = []

    def after_learning(before: int, after: int) -> None:
        learned.append(trainer.parts.learner.parameters.view(actions, -1).T.double().numpy().copy())
        update_target(before, after)

    trainer.parts.learner.update_target = after_learning
    run(trainer)
    assert len(learned) == 600
    assert np.abs(learned[-1] - learned[0]).max() > 0.1
    for ours, theirs in zip(learned, tables, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


# --- when things happen ---


@pytest.mark.parametrize("ahead", [False, True])
def test_actions_are_chosen_before_or_after_the_updates_of_the_step_before(make_config, ahead):
    """Each action is the one that the parameters of that moment choose, and all else keeps its order."""
    steps = ("memory.warmup_steps=8", "trainer.learn_every_steps=1", "trainer.total_steps=40")
    how = f"trainer.learn_while_stepping={str(ahead).lower()}"
    trainer = build_trainer([make_config(*PLAIN, *QUIET, *steps, "exploration=greedy", "env.backend=gymnasium", how)])
    agent, learner, order = trainer._agent, trainer.parts.learner, []
    act, store, learn = agent.act, agent.store, agent.learn

    def acting(*args):
        chosen = act(*args)
        order.append("act")
        assert torch.equal(chosen, learner.q_values(agent.observations).argmax(-1))
        return chosen

    agent.act = acting
    agent.store = lambda *args: (order.append("store"), store(*args))
    agent.learn = lambda *args: (order.append("learn"), learn(*args))
    run(trainer)
    whole = ["act", "store"] * 7
    if ahead:  # one more at the end, for a step that never comes
        whole = ["act", *["store", "act"] * 7, *["store", "act", "learn"] * 33]
    else:
        whole += ["act", "store", "learn"] * 33
    assert order == whole


def test_several_updates_of_a_step_call_use_one_draw_each(make_config):
    """Three updates at once are the three updates one by one."""
    shared = [*PLAIN, *QUIET, "env.num_envs=3", "trainer.learn_every_steps=1", "trainer.total_steps=1200"]
    trainer, other = build_trainer([make_config(*shared)]), build_trainer([make_config(*shared)])
    learn, seen = other._agent.learn, []

    def one_by_one(draws):
        seen.append(len(draws))
        for draw in draws:
            learn([draw])

    other._agent.learn = one_by_one
    assert run(trainer) == run(other)
    assert set(seen) == {3}
    assert len(seen) == trainer.updates[0] / 3 > 60
    assert torch.equal(trainer.parts.learner.parameters, other.parts.learner.parameters)


@pytest.mark.parametrize("most_calls", [1, 3, 16])
def test_step_calls_in_a_row_are_the_step_calls_one_by_one(make_config, monkeypatch, most_calls):
    """Also where members begin to learn at different steps and schedules count episodes, which end meanwhile."""
    shared = [*PLAIN, *QUIET, "env.num_envs=3", "trainer.learn_every_steps=4", "trainer.updates_per_learn=2"]
    shared += ["trainer.total_steps=700", "trainer.log_every_steps=100"]
    shared += [
        "optimizer/learning_rate_schedule=exponential",
        *(f"optimizer.learning_rate_schedule.{word}" for word in ("decay=0.98", "end=0.01", "per=episode")),
    ]
    configs = [make_config(*shared, *traits.split()) for traits in TRAITS]
    expected = build_trainer(configs)
    expected._foreseeable_calls = lambda stop_at: 0
    expected_events = run(expected)
    monkeypatch.setattr("dqn.trainer.MOST_CALLS", most_calls)
    trainer = build_trainer(configs)
    stretch, calls = trainer._stretch, []
    trainer._stretch = lambda n: (calls.append(n), stretch(n))[1]
    assert run(trainer) == expected_events
    assert_same_state(trainer.state_dict(), expected.state_dict())
    assert max(calls) == most_calls
    assert sum(event.member == 0 for event in expected_events if isinstance(event, Episode)) > 10


def test_an_interruption_ends_a_stretch_after_the_step_call_at_hand(make_config):
    trainer = build_trainer(
        [make_config(*PLAIN, *QUIET, "memory.warmup_steps=30", "trainer.total_steps=700", "env.num_envs=3")]
    )
    play, calls = trainer._agent.play, []

    def play_and_interrupt(draws):
        play(draws)
        calls.append(trainer.steps)
        trainer.interrupted = len(calls) == 20

    trainer._agent.play = play_and_interrupt
    events = run(trainer)
    assert len(calls) == 20
    assert trainer.steps == 60
    assert events[-1] == End(0, 60, "interrupted", "stopped by a signal")


def test_learning_waits_for_warmup_and_then_happens_every_so_many_steps(make_config):
    config = make_config(
        *PLAIN,
        *QUIET,
        "memory.warmup_steps=50",
        "trainer.learn_every_steps=4",
        "trainer.updates_per_learn=3",
        "trainer.total_steps=100",
        "env.num_envs=2",
    )
    trainer = build_trainer([config])
    seen = []
    learn = trainer._agent.learn
    trainer._agent.learn = lambda draws: (seen.append((trainer.steps, len(draws))), learn(draws))
    run(trainer)
    assert seen == [(step, 3) for step in range(52, 101, 4)]
    assert trainer.updates.tolist() == [39]


def test_several_environments_catch_up_on_learning(make_config):
    """8 steps a call and learning every 4 steps: twice a call."""
    config = make_config(
        *PLAIN,
        *QUIET,
        "memory.warmup_steps=80",
        "trainer.learn_every_steps=4",
        "trainer.total_steps=160",
        "env.num_envs=8",
    )
    trainer = build_trainer([config])
    run(trainer)
    assert trainer.updates.tolist() == [2 * (160 - 80 + 8) // 8]


def test_the_blog_replays_32_single_transitions_after_each_episode(make_config):
    config = make_config("experiment=cartpole_blog", *QUIET, "trainer.total_episodes=5", "env.max_steps=12")
    trainer = build_trainer([config])
    added = []
    add = trainer.parts.memory.add
    trainer.parts.memory.add = lambda experience: (added.append(experience), add(experience))
    events = run(trainer)
    assert trainer.updates.tolist() == [5 * 32]
    episodes = [e for e in events if isinstance(e, Episode)]
    assert len(episodes) == 5
    transitions = [e for e in added if not e.was_reset.item()]
    ends = np.cumsum([e.episode_length for e in episodes]) - 1
    for i, experience in enumerate(transitions):
        assert experience.rewards.item() == (-100.0 if i in ends else 1.0)
        assert experience.terminated.item() == (i in ends)  # the time limit too
    assert any(e.episode_length == 12 for e in episodes), "no episode reached the limit: the test shows nothing"
    assert [e for e in events if isinstance(e, End)] == [End(0, trainer.steps, "completed", "5 episodes")]


def test_epsilon_of_the_blog_decays_after_each_episode(make_config):
    config = make_config("experiment=cartpole_blog", *QUIET, "trainer.total_episodes=30", "trainer.log_every_steps=1")
    trainer = build_trainer([config])
    episodes = 0
    for event in trainer.run():
        if isinstance(event, Episode):
            episodes += 1
        elif isinstance(event, Learning):
            assert event.epsilon == pytest.approx(0.995**episodes, rel=1e-12)
    trainer.close()


def test_evaluations_pauses_and_the_best_network(make_config):
    config = make_config(
        *PLAIN,
        "logger=none",
        "trainer.total_steps=2500",
        "evaluation.every_steps=1000",
        "checkpoint.every_steps=700",
        "evaluation.episodes=3",
        "evaluation.num_envs=3",
    )
    trainer = build_trainer([config])
    best, snapshots = -np.inf, {}
    for event in trainer.run():
        if isinstance(event, Evaluation):
            snapshots[event.step] = trainer.parts.learner.parameters.clone()
            score = event.mean_return
            assert event.is_best == (score >= best)
            best = max(best, score)
            if event.is_best:
                best_step = event.step
        if isinstance(event, Pause):
            snapshots.setdefault("pauses", []).append(event.step)
    trainer.close()
    assert snapshots.pop("pauses") == [700, 1400, 2100, 2500]
    assert list(snapshots) == [1000, 2000, 2500]
    assert trainer.standing.best_step.tolist() == [best_step]
    torch.testing.assert_close(trainer.standing.best_parameters, snapshots[best_step], rtol=0, atol=0)


def test_evaluations_do_not_change_training(make_config):
    overrides = [*PLAIN, "logger=none", "trainer.total_steps=1500", "evaluation.episodes=2"]
    trainers = [
        build_trainer([make_config(*overrides, f"evaluation.every_steps={every}")]) for every in ("300", "null")
    ]
    for trainer in trainers:
        run(trainer)
    a, b = (trainer.parts.learner.parameters for trainer in trainers)
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_run_stops_when_its_values_are_still(make_config):
    config = make_config(
        "experiment=gridworld_q_table",
        "logger=none",
        "evaluation.stop.optimal=false",
        "evaluation.stop.evaluations=3",
        "evaluation.every_steps=100",
        "optimizer.learning_rate=1e-9",
    )
    trainer = build_trainer([config])
    events = run(trainer)
    end = events[-1]
    assert isinstance(end, End)
    assert (end.status, end.step) == ("converged", 400)  # the first evaluation has nothing to compare with
    assert [e.value_change is None for e in events if isinstance(e, Evaluation)] == [True, False, False, False]


def test_a_run_that_was_stopped_after_it_had_converged_has_converged(make_config):
    words = "evaluation.stop.mean_return=20", "evaluation.stop.evaluations=1", "evaluation.every_steps=100"
    config = make_config(*PLAIN, "logger=none", *words)
    trainer = build_trainer([config])
    for event in trainer.run():
        if isinstance(event, Pause) and trainer.finished[0]:
            break
    assert trainer.is_over
    state = copy.deepcopy(trainer.state_dict())
    trainer.close()
    again = build_trainer([config])
    assert not again.is_over
    again.load_state_dict(state)
    assert again.is_over
    pause, end = run(again)
    assert isinstance(pause, Pause)
    assert (end.status, end.step) == ("converged", state["steps"])
    assert end.reason == "mean return at least 20 in one evaluation"
    assert_same_state(again.state_dict()["learner"], state["learner"])


@pytest.mark.parametrize(("backend", "calls"), [("gymnasium", 1), ("torch", 16)])
def test_an_interrupted_loop_finishes_its_step_calls_and_pauses(make_config, backend, calls):
    trainer = build_trainer([make_config(*PLAIN, *QUIET, f"env.backend={backend}")])
    events = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, Episode) and event.step > 300:
            trainer.interrupted = True
    trainer.close()
    assert [type(event) for event in events[-2:]] == [Pause, End]
    assert events[-1].status == "interrupted"
    assert events[-1].step == events[-2].step == trainer.steps
    first = next(event.step for event in events if isinstance(event, Episode) and event.step > 300)
    assert first <= trainer.steps < first + calls


def test_an_evaluation_that_was_broken_off_is_played_first_when_the_run_goes_on(make_config, monkeypatch):
    lengths = "trainer.total_steps=1500", "trainer.log_every_steps=1000", "evaluation.every_steps=500"
    config = make_config(*PLAIN, *QUIET, *lengths)
    whole = build_trainer([config])
    expected = next(event for event in run(whole) if isinstance(event, Evaluation))
    assert expected.step == 500

    trainer = build_trainer([config])
    play = trainer.parts.evaluator.__class__.__call__

    def broken_off(evaluator, *args):
        trainer.interrupted = True
        return play(evaluator, *args)

    monkeypatch.setattr(trainer.parts.evaluator.__class__, "__call__", broken_off)
    events = run(trainer)
    monkeypatch.undo()
    assert trainer.steps == 500
    assert not [event for event in events if isinstance(event, Evaluation)]

    again = build_trainer([config])
    again.load_state_dict(trainer.state_dict())
    assert next(iter(event for event in run(again) if not isinstance(event, Episode))) == expected


MEMORIES = ("uniform", "prioritized")


@pytest.mark.parametrize("memory", MEMORIES)
def test_divergence_ends_the_run_before_anything_is_saved(memory, make_config):
    config = make_config(
        *PLAIN,
        f"memory={memory}",
        "logger=none",
        "optimizer=sgd",
        "optimizer.learning_rate=1e30",
        "optimizer.max_gradient_norm=null",
        "algorithm/loss=mse",
    )
    trainer = build_trainer([config])
    events = run(trainer)
    assert isinstance(events[-1], End)
    assert events[-1].status == "diverged"
    assert "between steps 1,000 and 2,000" in events[-1].reason
    assert not [e for e in events if isinstance(e, (Pause, Evaluation))]


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_diverged_member_leaves_the_others_alone(memory, make_config):
    overrides = [*PLAIN, *QUIET, "trainer.total_steps=1300", "optimizer=sgd", "algorithm/loss=mse", f"memory={memory}"]
    overrides += ["optimizer.max_gradient_norm=null"]
    sane, mad = make_config(*overrides, "seed=1"), make_config(*overrides, "optimizer.learning_rate=1e30")
    trainer = build_trainer([mad, sane])
    events = run(trainer)
    assert [(e.member, e.status) for e in events if isinstance(e, End)] == [(0, "diverged"), (1, "completed")]
    lone = build_trainer([sane])
    run(lone)
    torch.testing.assert_close(
        trainer.parts.learner.parameters[1], lone.parts.learner.parameters[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_member_whose_memory_is_empty_waits(memory, make_config):
    """A memory of one step call holds nothing right after an autoreset."""
    words = [*PLAIN, *QUIET, "env.backend=gymnasium", "env.num_envs=1", f"memory={memory}"]
    words += ["memory.n_step=4", "memory.capacity_steps=1", "memory.warmup_steps=5", "trainer.learn_every_steps=1"]
    configs = [make_config(*words, "trainer.total_steps=150", "trainer.batch_size=2", f"seed={s}") for s in range(3)]
    trainer = build_trainer(configs)
    run(trainer)
    assert len(set(trainer.updates.tolist())) > 1
    assert torch.isfinite(trainer.parts.learner.parameters).all()


def test_two_runs_of_one_seed_are_the_same_to_the_bit(make_config):
    config = make_config(*PLAIN, *QUIET, "trainer.total_steps=1500")
    first, second = build_trainer([config]), build_trainer([config])
    assert run(first) == run(second)
    torch.testing.assert_close(first.parts.learner.parameters, second.parts.learner.parameters, rtol=0, atol=0)


# --- state ---


def test_state_goes_out_and_in_again(make_config):
    """Everything that a trainer knows is in its state, and a trainer that took it over goes on from there."""
    overrides = [*PLAIN, "logger=none", "trainer.total_steps=1600", "checkpoint.every_steps=1200"]
    config = make_config(*overrides, "evaluation.every_steps=600", "evaluation.episodes=2", "evaluation.num_envs=2")
    trainer = build_trainer([config])
    for event in trainer.run():
        if isinstance(event, Pause):
            state = copy.deepcopy(trainer.state_dict())
            break
    other = build_trainer([config])
    other.load_state_dict(copy.deepcopy(state))
    assert_same_state(other.state_dict(), state)
    assert other.steps == 1200
    draws = torch.linspace(0, 0.999, 64, dtype=torch.float64).unsqueeze(0)
    for ours, theirs in zip(other.parts.memory.sample(draws), trainer.parts.memory.sample(draws), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    events = run(other)
    assert events[-1] == End(0, 1600, "completed", "1,600 steps")
    assert other.updates.tolist() == [301]  # from step 1000 every second step: none left out, none twice


def test_an_unbounded_memory_grows_with_a_longer_run(make_config):
    overrides = ["experiment=cartpole_blog", *QUIET, "env.num_envs=2"]
    short = build_trainer([make_config(*overrides, "trainer.total_episodes=4")])
    events = run(short)
    assert isinstance(events[-1], End)
    state = copy.deepcopy(short.state_dict())
    longer = build_trainer([make_config(*overrides, "trainer.total_episodes=8")])
    longer.load_state_dict(state)
    draws = torch.linspace(0, 0.999, 200, dtype=torch.float64).unsqueeze(0)
    for ours, theirs in zip(longer.parts.memory.sample(draws), short.parts.memory.sample(draws), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    run(longer)
    assert longer.episodes.tolist() >= [8]


@pytest.mark.parametrize(("shrinks_for_updates", "steps"), [(0, 1200), (150, 1500), (10_000, 2000)])
def test_a_population_shrinks_when_waiting_has_cost_as_much(make_config, shrinks_for_updates, steps):
    overrides = [*PLAIN, "logger=none", "checkpoint.every_steps=null", "evaluation.every_steps=100"]
    config = make_config(*overrides, "trainer.total_steps=2000", "trainer.log_every_steps=100")
    trainer = build_trainer([dataclasses.replace(config, seed=seed) for seed in range(3)])
    trainer.judge = lambda step, scores: {0: "no hope", 1: "no hope"} if step == 1200 else {}
    trainer.endings._shrinks_for_updates = shrinks_for_updates
    events = run(trainer)
    assert trainer.steps == steps
    assert [event.member for event in events if isinstance(event, End)] == ([0, 1] if steps < 2000 else [0, 1, 2])
