from __future__ import annotations

import json

from dqn.events import End, Pause
from dqn.observers.scalars import ScalarRecords


def records(scalars, *events):
    for event in events:
        scalars.add(event)
    return scalars.rest()


def test_numbers_have_a_section_and_a_name(clock, learning, evaluation):
    scalars = ScalarRecords(clock)
    clock.now += 4.0
    assert records(scalars, learning(100, loss=None), evaluation(150, optimal=None)) == [
        (
            100,
            {
                "learning/updates": 7,
                "learning/mean_q": 2.0,
                "learning/td_error": 0.5,
                "learning/gradient_norm": 4.0,
                "learning/epsilon": 0.125,
                "learning/learning_rate": 0.001,
                "learning/steps_per_second": 25.0,
            },
        ),
        (
            150,
            {
                "evaluation/returns": [10.0, 30.0],
                "evaluation/mean_return": 20.0,
                "evaluation/min_return": 10.0,
                "evaluation/max_return": 30.0,
                "evaluation/mean_length": 6.5,
                "evaluation/epsilon": 0.05,
                "evaluation/is_best": 1.0,
            },
        ),
    ]
    ((_, numbers),) = records(scalars, evaluation(160, value_change=0.5))
    assert (numbers["evaluation/optimal_fraction"], numbers["evaluation/value_change"]) == (0.5, 0.5)
    assert records(scalars, Pause(member=-1, step=170)) == []


def test_a_few_episodes_have_a_record_each(clock, episode, learning):
    scalars = ScalarRecords(clock)
    clock.now += 1.0
    few = [episode(3, 1.0, 3), episode(7, 5.0, 4)]
    assert records(scalars, *few) == []
    assert records(scalars, learning(10))[:-1] == [
        (3, {"train/episode_return": 1.0, "train/episode_length": 3}),
        (7, {"train/episode_return": 5.0, "train/episode_length": 4}),
    ]
    assert len(records(scalars, learning(20))) == 1


def test_more_than_two_a_second_are_summed_up_in_the_next_record(clock, episode, learning, evaluation):
    many = [episode(3, 1.0, 3), episode(7, 9.0, 7), episode(9, 2.0, 9)]
    summary = {
        "train/episode_return": 4.0,
        "train/episode_return_min": 1.0,
        "train/episode_return_max": 9.0,
        "train/episode_length": 19 / 3,
    }
    for event, name in ((learning(10), "learning/loss"), (evaluation(10), "evaluation/mean_return")):
        scalars = ScalarRecords(clock)
        clock.now += 100.0
        records(scalars, learning(1))
        clock.now += 1.0
        ((step, numbers),) = records(scalars, *many, event)
        assert step == 10
        assert numbers.items() > summary.items()
        assert name in numbers


def test_records_are_due_in_bursts_of_a_second(clock, learning):
    scalars = ScalarRecords(clock)
    start, bursts = clock(), []
    for step in range(1, 26):
        clock.now += 0.1
        scalars.add(learning(step))
        if burst := scalars.due():
            bursts.append((round(clock() - start, 1), [step for step, _ in burst]))
    assert bursts == [(1.0, list(range(1, 11))), (2.0, list(range(11, 21)))]
    assert [step for step, _ in scalars.rest()] == list(range(21, 26))


def test_no_episode_is_lost_at_the_end_or_over_a_resume(clock, episode, learning):
    scalars = ScalarRecords(clock)
    clock.now += 1.0
    records(scalars, learning(10))
    clock.now += 3.0
    records(scalars, episode(12, 1.0, 3))
    state = json.loads(json.dumps(scalars.state_dict()))
    clock.now += 500.0
    resumed = ScalarRecords(clock)
    resumed.load_state_dict(state)
    clock.now += 1.0
    first, second = records(resumed, learning(60))
    assert first == (12, {"train/episode_return": 1.0, "train/episode_length": 3})
    assert second[1]["learning/steps_per_second"] == 12.5  # 50 steps in 3 s before and 1 s after
    end = End(member=0, step=80, status="interrupted", reason="")
    last = (70, {"train/episode_return": 2.0, "train/episode_length": 4})
    assert records(resumed, episode(70, 2.0, 4), end) == [last]
