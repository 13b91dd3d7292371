"""Random command lines of scripts/train.py: most of them wrong somewhere, the others runs of a second.

What there is to say is found, not listed: groups and options in conf/, keys and ranges in the schemas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import gymnasium
import odd_values as odd
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dqn.compose import CONF, WANDB_SWEEPS, leaves, register_resolvers
from dqn.config import LARGEST, Config
from dqn.sweep.config import OptunaConfig, PBTConfig
from dqn.sweep.launch import LauncherConfig
from dqn.validation import Schema, join_key

Text = st.SearchStrategy[str]

# --- limits, with which whatever is right is over soon -----------------------------------------------------------

_LIMITS = {
    "trainer.total_steps": "60",
    "trainer.learn_every_steps": "8",
    "trainer.updates_per_learn": "1",
    "trainer.batch_size": "4",
    "trainer.threads": "1",
    "trainer.compile": "never",
    "memory.capacity_steps": "200",
    "memory.warmup_steps": "20",
    "evaluation.every_steps": "30",
    "evaluation.episodes": "1",
    "evaluation.final_episodes": "2",
    "evaluation.num_envs": "2",
    "evaluation.video": "false",
    "checkpoint.every_steps": "40",
    "export.formats": "[safetensors]",
    "env.num_envs": "2",
    "logger": "none",
}
_OF_ATARI = {"env.max_frames_per_episode": "60", "env.noop_max": "2"}
_LIMITS_OF_ENV = {name: {"env.max_steps": "30"} for name in ("gymnasium", "cartpole", "gridworld")}
_LIMITS_OF_ENV |= dict.fromkeys(("atari", "breakout", "pong"), _OF_ATARI)
_LIMITS_OF_EXPERIMENT = {"bbf_replay": {"network.width": "1", "network.hidden_size": "16"}}  # else gigabytes
_LIMITS_OF_SWEEPER = {
    "optuna": {"hydra.sweeper.trials": "2", "hydra.sweeper.seeds_per_trial": "1"},
    "pbt": {"hydra.sweeper.population": "2"},
}
# Right but long; the largest that is soon over.
_LONGEST = {
    "trainer.total_steps": 300,
    "trainer.total_episodes": 20,
    "trainer.updates_per_learn": 4,
    "trainer.batch_size": 64,
    "evaluation.episodes": 4,
    "evaluation.final_episodes": 4,
    "env.num_envs": 8,
    "env.action_repeat": 8,
    "env.noop_max": 30,
    "env.max_steps": 100,
    "env.max_frames_per_episode": 400,
    "env.frame_stack": 8,
    "env.frame_height": 100,
    "env.frame_width": 100,
    "network.hidden_sizes": 64,
    "network.hidden_size": 64,
    "network.width": 2,
    "hydra.sweeper.trials": 3,
    "hydra.sweeper.seeds_per_trial": 2,
    "hydra.sweeper.population": 4,
}
_SIZES = (
    "trainer.batch_size",
    "env.num_envs",
    "network.hidden_sizes",
    "network.hidden_size",
)  # of which the largest are to be refused
_TOO_LARGE = 1e9
_NEVER_SOON = ("trainer.compile=always", "logger=wandb", "hydra/launcher/executor=ray")


def _is_passable(word: str) -> bool:
    """Whether a shell can pass it, it is over soon, and it leaves alone what does not belong to the command."""
    key, _, value = word.lstrip("+~").partition("=")
    if "\0" in word or word.startswith(_NEVER_SOON) or "hydra.mode" in word or (key == "name" and ".." in value):
        return False
    most = _TOO_LARGE if key in _SIZES else LARGEST
    numbers = [_number(text) for text in value.strip("[]'\"").replace("_", "").split(",")]
    return key not in _LONGEST or not any(_LONGEST[key] < number < most for number in numbers)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _limits(words: list[str], env: str) -> list[str]:
    """Words that keep short what the others leave open, where the preset has this environment."""
    given = dict(word.lstrip("+~").partition("=")[::2] for word in words)
    sweeper = given.get("hydra/sweeper", "basic" if given.get("sweep", "none") == "none" else "optuna")
    limits = _LIMITS | _LIMITS_OF_ENV.get(given.get("env", env), {}) | _LIMITS_OF_SWEEPER.get(sweeper, {})
    limits |= _LIMITS_OF_EXPERIMENT.get(given.get("experiment", ""), {})
    return [f"{key}={value}" for key, value in limits.items() if key not in given]


# --- values ------------------------------------------------------------------------------------------------------


def _quoted(texts: Text) -> Text:
    return texts.map(lambda text: QuotedString(text, Quote.single).with_quotes())


_OF_ANY_KIND = [odd.NUMBERS, odd.WORDS, [*odd.SPACES_AND_CONTROLS, *odd.LETTERS], odd.LONG]
_PLAIN_ODD = st.one_of(*map(st.sampled_from, _OF_ANY_KIND), st.text(max_size=20))
_ODD = st.one_of(_PLAIN_ODD, _PLAIN_ODD, _quoted(_PLAIN_ODD))
_OF_KEY: dict[str, Text] = {
    "env.map": _quoted(
        st.one_of(st.text("SG#H.\n", max_size=40), st.text("SG#H. \té", max_size=9), st.sampled_from(odd.MAPS))
    ),
    "env.id": st.one_of(st.sampled_from(sorted(gymnasium.registry)), st.sampled_from(odd.ENVIRONMENT_IDS)),
    "env.game": st.sampled_from(odd.GAMES),
    "resume": st.sampled_from(odd.PLACES),
    "sweep.resume": st.sampled_from(odd.PLACES),
}


def _values(schema: Schema, longest: float | None) -> Text:
    """What a field takes, mostly, and the values about the ends of its range."""
    node = schema.node
    if schema.choices:
        return st.sampled_from(schema.choices)
    if schema.type == "boolean":
        return st.sampled_from(["true", "false", "True", "0", "1"])
    if schema.type in ("integer", "number"):
        low = node.get("minimum", node.get("exclusiveMinimum", -10))
        high = min(node.get("maximum", node.get("exclusiveMaximum", math.inf)), longest or math.inf)
        if schema.type == "integer":
            ends = [low - 1, low, low + 1, *([high, high + 1] if high < math.inf and longest is None else [])]
            return st.one_of(st.integers(low, int(min(high, low + 300))), st.sampled_from(ends)).map(str)
        ends = [low, math.nextafter(low, -math.inf), math.nextafter(low, math.inf), -low]
        ends += [high, math.nextafter(high, 0), math.nextafter(high, math.inf)] if high < math.inf else []
        return st.one_of(st.floats(low, min(high, low + 100), allow_subnormal=False), st.sampled_from(ends)).map(repr)
    if schema.type == "array":
        items = _values(schema.child(0), longest)
        return st.lists(items, max_size=3).map(lambda items: f"[{','.join(items)}]")
    if schema.type == "object":
        return st.sampled_from(["{}", "{a:1}", "{num_envs:1}"])
    return st.sampled_from(["a", "b1", "CartPole-v1", "seaquest"])


def _fields(schema: Schema, key: str) -> Iterator[tuple[str, Schema]]:
    """The fields of a schema, of all kinds, by dotted key."""
    if "discriminator" in schema.node:
        for kind in schema.node["discriminator"]["mapping"]:
            yield from _fields(schema.child(kind), key)
    elif schema.properties:
        for name in schema.properties:
            yield from _fields(schema.child(name), join_key(key, name))
    else:
        yield key, schema


def _fitting_values() -> dict[str, Text]:
    """Of every field the values that it may well take."""
    values: dict[str, Text] = {}
    for cls, prefix in ((Config, ""), (LauncherConfig, "hydra.launcher"), *_SWEEPERS):
        for key, schema in _fields(Schema.of(cls), prefix):
            texts = _OF_KEY[key] if key in _OF_KEY else _values(schema, _LONGEST.get(key))
            texts = st.one_of(texts, texts, st.just("null")) if schema.nullable else texts
            values[key] = st.one_of(values[key], texts) if key in values else texts
    return values


_SWEEPERS = ((OptunaConfig, "hydra.sweeper"), (PBTConfig, "hydra.sweeper"))
_FITTING = _fitting_values()


# --- keys and options --------------------------------------------------------------------------------------------

# Who sets these has Hydra run code, or write anywhere.
_OUT_OF_BOUNDS = (
    *("_target_", "logging", "verbose", "searchpath", "callbacks", "env_set", "env_copy"),
    *(".dir", ".cwd", "output_dir"),
)


def _keys_of_hydra() -> list[str]:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", ["hydra/sweeper=optuna"], return_hydra_config=True))
    keys = [key for key, _ in leaves(composed) if key.startswith(("hydra.", "sweep."))]
    return [key for key in keys if not any(word in key for word in _OUT_OF_BOUNDS)]


_KEYS = sorted(_FITTING)
_IN_EVERY_RUN = ["seed", "algorithm.discount", "optimizer.learning_rate", "optimizer.max_gradient_norm", "env.num_envs"]
_IN_EVERY_RUN += [
    key for key in _KEYS if key.startswith(("trainer.", "memory.", "evaluation.", "checkpoint.", "export."))
]
_OTHER_KEYS = [*_keys_of_hydra(), *sorted({key.rpartition(".")[0] for key in _KEYS if "." in key})]
_OTHER_KEYS += ["env.kwargs.a", "evaluation.env.start", "sweep.resume"]
_ANY_KEY = st.sampled_from([_IN_EVERY_RUN] * 5 + [_KEYS] * 3 + [_OTHER_KEYS]).flatmap(st.sampled_from)

_GROUPS = {
    str(folder.relative_to(CONF)): options
    for folder in sorted(CONF.rglob("*"))
    if folder.name not in (WANDB_SWEEPS, "experiment")
    if (options := sorted(path.stem for path in folder.glob("*.yaml")))
} | {"hydra/launcher": ["basic", "population"], "hydra/sweeper": ["basic", "optuna", "pbt"]}  # two are Hydra's own


def _env_of(experiment: str) -> str:
    """Its own choice, or that of the preset it builds on."""
    defaults = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text()).get("defaults", [])
    own = [one["override /env"] for one in defaults if isinstance(one, dict) and "override /env" in one]
    return own[0] if own else _env_of(next(one for one in defaults if isinstance(one, str)))


_ENV_OF_EXPERIMENT = {path.stem: _env_of(path.stem) for path in sorted((CONF / "experiment").glob("*.yaml"))}
_WITHOUT_IMAGES = [name for name, env in _ENV_OF_EXPERIMENT.items() if env in ("cartpole", "gridworld")]  # and so fast


# --- words -------------------------------------------------------------------------------------------------------


@st.composite
def _misspelt(draw: st.DrawFn, key: str) -> str:
    place, letter = draw(st.integers(0, len(key) - 1)), draw(st.sampled_from("xX._-/@ é\\'[0:$"))
    before, after = key[:place], key[place + 1 :]
    group, _, name = key.rpartition(".")
    changed = [
        before + after,
        before + letter + key[place:],
        before + letter + after,
        key.upper(),
        key.replace(".", "/"),
    ]
    return draw(st.sampled_from([*changed, f"{key}.x", f"{key}[0]", f".{key}", f"{key}@{key}", group, name]))


@st.composite
def _assignments(draw: st.DrawFn) -> str:
    """One word: mostly a key with a value that it takes, or with one that is odd."""
    manner = draw(
        st.sampled_from(["fitting"] * 16 + ["odd"] * 6 + ["misspelt"] * 2 + ["prefix"] * 2 + ["cycle", "text"])
    )
    key = draw(_ANY_KEY)
    if manner == "text":
        return draw(_PLAIN_ODD)
    if manner == "cycle":
        return f"{key}=${{{draw(st.sampled_from([key, key.rpartition('.')[0] or key, *_KEYS]))}}}"
    value = draw(_ODD if manner == "odd" else _FITTING.get(key, _ODD))
    if manner == "misspelt":
        key = draw(_misspelt(key))
    form = draw(st.sampled_from(odd.PREFIXES)) if manner == "prefix" else "{}={}"
    return form.format(key, value)


@st.composite
def _choices(draw: st.DrawFn) -> str:
    """One word that picks an option of a group, mostly one that there is."""
    group = draw(st.sampled_from(sorted(_GROUPS)))
    options = _GROUPS[group]
    no_options = st.one_of(st.sampled_from(["null", f"[{','.join(options[:2])}]"]), _PLAIN_ODD)
    option = draw(no_options if draw(st.integers(0, 7)) == 0 else st.sampled_from(options))
    return draw(st.sampled_from(["{}={}"] * 12 + ["+{}={}", "~{}", "++{}={}", "{}@x={}"])).format(group, option)


@st.composite
def _sweeps(draw: st.DrawFn) -> list[str]:
    """-m and what varies."""
    if draw(st.integers(0, 3)):
        return ["-m", *draw(st.sampled_from(odd.SWEEPS))]
    key = draw(st.sampled_from(_KEYS))
    return ["-m", f"{key}={draw(_FITTING[key])},{draw(_FITTING[key])}"]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """The words after `scripts/train.py`."""
    experiment = draw(st.sampled_from([*_ENV_OF_EXPERIMENT, *_WITHOUT_IMAGES * 3]))
    words = draw(
        st.lists(st.one_of(_assignments(), _assignments(), _assignments(), _choices()), min_size=1, max_size=3)
    )
    manner = draw(st.sampled_from(["run"] * 9 + ["sweep"] * 2 + ["resume", "folder", "flag"]))
    if manner == "resume":
        lengths = draw(st.sampled_from(["trainer.total_steps=80", "trainer.total_episodes=3", "trainer.total_steps=1"]))
        of_run = draw(st.booleans())
        words = [f"resume={'run' if of_run else draw(st.sampled_from(odd.PLACES))}", lengths, *words[:1]]
        return list(filter(_is_passable, words[: draw(st.integers(1, 3))]))
    if manner == "folder":
        key = draw(st.sampled_from(["hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"]))
        words.append(f"{key}={draw(st.sampled_from(odd.FOLDERS))}")
    if manner == "flag":
        words.append(draw(st.sampled_from(odd.FLAGS)))
    if manner == "sweep" or (manner == "folder" and draw(st.booleans())):
        words += draw(_sweeps())
    words = draw(st.permutations([f"experiment={experiment}", *filter(_is_passable, words)]))
    if draw(st.integers(0, 19)) == 0:
        words.append(draw(st.sampled_from(words)))  # twice
    return [*words, *_limits(words, _ENV_OF_EXPERIMENT[experiment])]
