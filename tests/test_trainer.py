"""The loop: Q-learning is Q-learning, and everything happens when it should."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from plain_runs import PLAIN, QUIET, TRAITS, run
from states import assert_same_state

from dqn.events import End, Episode, Evaluation, Learning, Pause
from dqn.experiment import build_trainer
from dqn.memory.stream import Experience

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
