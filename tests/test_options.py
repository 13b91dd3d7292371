from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from dqn.errors import UserError
from dqn.options import parse_options


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class Options:
    run: Annotated[str, Field(description="the run's folder", examples=["runs/cartpole/first"])]
    episodes: Annotated[int, Field(ge=1, description="how many to play")] = 100
    runs: Annotated[tuple[str, ...], Field(description="folders or globs", examples=[["a/*", "b"]])] = ()
    video: bool = False
    epsilon: Annotated[float | None, Field(ge=0, le=1)] = None
    network: Literal["best", "last"] = "best"
    label: str | None = None


def parse(*words: str) -> Options:
    return parse_options(Options, words, "What it does.")


def message(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*words)
    return str(caught.value)


def test_defaults_stay_where_nothing_is_given() -> None:
    assert parse("run=a") == Options(run="a")


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("episodes=5", "episodes", 5),
        ("episodes=1e3", "episodes", 1000),
        ("video=true", "video", True),
        ("epsilon=0.05", "epsilon", 0.05),
        ("epsilon=1e-3", "epsilon", 0.001),  # a number in OmegaConf's YAML, text in PyYAML's
        ("epsilon=null", "epsilon", None),
        ("network=last", "network", "last"),
        ("label=null", "label", None),
        ("label=a=b", "label", "a=b"),
        ("runs=[a,b]", "runs", ("a", "b")),
        ("runs=[runs/a/*, 'b c', \"[0-9]?\"]", "runs", ("runs/a/*", "b c", "[0-9]?")),
        ("runs=runs/seed[0-4]*", "runs", ("runs/seed[0-4]*",)),
        ("runs=*/seed0", "runs", ("*/seed0",)),
        ("runs=2024", "runs", ("2024",)),
        ("runs=[]", "runs", ()),
    ],
)
def test_values_are_read_as_yaml(word: str, key: str, value: object) -> None:
    assert getattr(parse("run=a", word), key) == value


@pytest.mark.parametrize("text", ["2024", "1e5", "null", "true", "2024-01-01", "*x", "a b", "007"])
def test_text_stays_as_it_was_typed(text: str) -> None:
    assert parse(f"run={text}").run == text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["epsiodes=3"], "epsiodes=3: no such option; did you mean episodes?"),
        (["--episodes=3"], "--episodes=3: no such option; did you mean episodes?"),
        (
            ["zzz=3"],
            "zzz=3: no such option; choose one of episodes, epsilon, label, network, run, runs, video",
        ),
        (["a"], "a: options are written key=value; --help lists them"),
        (["run=a", "episodes=0"], "episodes=0: must be greater than or equal to 1"),
        (["run=a", "episodes=many"], "episodes=many: must be a whole number"),
        (["run=a", "episodes=true"], "episodes=true: must be a whole number"),
        (["run=a", "epsilon=2"], "epsilon=2: must be less than or equal to 1, or null"),
        (["run=a", "network=bset"], "network=bset: did you mean best?"),
        (["run=a", "run=b"], "run=b: was given before as a; give it once"),
        (["run="], "run=: needs a value: text"),
        (["run=[a]"], "run=[a]: must be text"),
        ([], "run is missing: the run's folder, e.g. run=runs/cartpole/first"),
        (
            ["runs=[a, *b]"],
            "runs=[a, *b]: cannot be read as YAML; put names with special characters in quotes, "
            "e.g. runs=\"['*/a', b]\"",
        ),
    ],
)
def test_bad_options_are_named_with_what_would_be_right(words: list[str], expected: str) -> None:
    assert message(*words) == expected


def test_an_interpolation_that_fails_is_one_line() -> None:
    assert message("run=${oc.env:NO_SUCH_VARIABLE}").startswith("run=${oc.env:NO_SUCH_VARIABLE}: ")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_shows_every_option_and_exits_with_0(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse("nonsense", word)
    assert exit_.value.code == 0
    assert capsys.readouterr().out == (
        "What it does.\n"
        "\n"
        "options, each given as key=value:\n"
        "\n"
        "  run: text (required)\n"
        "      the run's folder\n"
        "      e.g. run=runs/cartpole/first\n"
        "\n"
        "  episodes: a whole number (default 100)\n"
        "      how many to play\n"
        "\n"
        "  runs: a list of text (default [])\n"
        "      folders or globs\n"
        '      e.g. runs="[a/*, b]"\n'
        "\n"
        "  video: true or false (default false)\n"
        "\n"
        "  epsilon: a number or null (default null)\n"
        "\n"
        "  network: best or last (default best)\n"
        "\n"
        "  label: text or null (default null)\n"
    )


def test_help_waits_for_no_heavy_import() -> None:
    program = "import sys, dqn.options; print(*{'torch', 'matplotlib', 'numpy', 'hydra'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
