"""Pictures of an Optuna study: its trials over time, and which parameters mattered."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dqn.report.plots import COLOURS, MUTED, STYLE, save_figure
from dqn.terminal import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.study import Study

_FEWEST_TRIALS = 4  # of fewer trials the importance of a parameter says nothing


def draw_study(folder: Path, notes: list[str]) -> Iterator[str]:
    """Draw the study in the folder's optuna.db; yields the files' names, and says in `notes` what it leaves out."""
    if importlib.util.find_spec("optuna") is None:
        notes.append('Plots of the study need the extra: pip install -e ".[optuna]"')
        return
    from optuna.trial import TrialState

    study = _load(folder / "optuna.db")
    if study is not None:
        notes += _other_score(study)
    completed = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]) if study else []
    if study is None or not completed:
        notes.append("The study has no completed trial yet: there is nothing to draw of it.")
        return
    yield _draw_history(study, folder / "history.png")
    if len(study.directions) > 1:
        notes.append("The study has several objectives: the importance of parameters is drawn for a single one only.")
        return
    if len(completed) < _FEWEST_TRIALS or len({trial.value for trial in completed}) < 2:
        notes.append("The importance of parameters needs a few more trials with different results.")
        return
    yield _draw_importance(study, folder / "importance.png")


def _other_score(study: Study) -> Iterator[str]:
    """Says where the search looked for something else than the ranking of the settings, the mean over seeds."""
    from dqn.sweep.study import MEMORY

    if MEMORY not in study.user_attrs:  # a study of somebody else's making
        return
    settings = study.user_attrs[MEMORY]["hydra"]["sweeper"]
    score = f"{settings['aggregate']} of {' and '.join(settings['objectives'])}"
    if score != "mean of mean_return":
        yield f"The search went by the {score}; the ranking and best.yaml go by the mean of mean_return."


def _load(path: Path) -> Study | None:
    """The study in the file, the first if there are several."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{path.absolute()}"
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage) if names else None


def _draw_history(study: Study, output: Path) -> str:
    """Each trial's value in the order of the trials, and the best so far; a panel for each objective."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.4 * len(study.directions) + 0.3), layout="constrained")
        panels = figure.subplots(len(study.directions), squeeze=False)[:, 0]
        for objective, ax in enumerate(panels):
            _draw_objective(ax, study, objective)
        panels[-1].set_xlabel("trial")
        save_figure(figure, output)
    return output.name


def _draw_objective(ax: Axes, study: Study, objective: int) -> None:
    from matplotlib.ticker import MaxNLocator
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    completed = [(trial.number, trial.values[objective]) for trial in trials if trial.state == TrialState.COMPLETE]
    numbers, values = zip(*completed, strict=True)
    is_maximum = study.directions[objective] == StudyDirection.MAXIMIZE
    best = (np.maximum if is_maximum else np.minimum).accumulate(values)
    ax.plot(numbers, values, "o", color=COLOURS[0], markersize=4, alpha=0.8, label="trial")
    ax.step([*numbers, len(trials) - 1], [*best, best[-1]], where="post", color=COLOURS[1], label="best so far")
    pruned = [
        (trial.number, trial.intermediate_values[max(trial.intermediate_values)])
        for trial in trials
        if trial.state == TrialState.PRUNED and trial.intermediate_values
    ]
    if pruned and objective == 0:
        ax.plot(*zip(*pruned, strict=True), "x", color=MUTED, markersize=4.5, label="pruned: its last evaluation")
    ax.set_ylabel(_objective_name(study, objective))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _objective_name(study: Study, objective: int) -> str:
    if study.metric_names:
        return one_line(study.metric_names[objective]).replace("_", " ")
    return "objective" if len(study.directions) == 1 else f"objective {objective + 1}"


def _draw_importance(study: Study, output: Path) -> str:
    """A bar for each parameter: its share of what makes a trial one of the best (PED-ANOVA, Optuna's default)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from optuna.importance import get_param_importances

    shares = dict(reversed(get_param_importances(study).items()))
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(7.5, 0.38 * len(shares) + 1.3), layout="constrained")
        ax = figure.subplots()
        bars = ax.barh([one_line(name) for name in shares], list(shares.values()), color=COLOURS[0], height=0.62)
        ax.bar_label(bars, [f"{100 * share:.0f} %" for share in shares.values()], padding=3, fontsize=8.5, color=MUTED)
        ax.set_xlabel("importance (PED-ANOVA); that of all parameters is 1")
        ax.margins(x=0.1)
        save_figure(figure, output)
    return output.name
