"""Values that no field expects, or that some reader of the command line takes for something else."""

from __future__ import annotations

_NUMBERS = """
0 -0 -1 1 2 7 1.5 -0.0 0.1 1. .5 1e3 1E2 1e-300 1e308 -1e308 1e400 5e-324 nan NaN -nan inf -inf .inf .nan infinity
1_0 0x10 0o17 0b1 +1 1e 1/2 50% 2147483648 4294967296 9007199254740993 9223372036854775807 9223372036854775808
-9223372036854775808 -9223372036854775809 18446744073709551616 1e18 1e19 1e9 1e12
"""
_WORDS = r"""
null none None NULL ~ true false True yes no on off ??? auto cpu cuda cuda:0 cuda:99 best last env trainer kind
choice(1,2) range(1,3) range(3,1) interval(0,1) interval(1,0) glob(*) glob([a*],exclude=b) sort(3,1,2) shuffle(1,2)
int(1.5) int(abc) float(1) str(1) bool(abc) json_str([1]) extend_list(1,2) tag(log,interval(1,9)) nope(1) choice()
[] [1] [1,2] [-1] [null] [[]] [[[[1]]]] [1,a] [true] [1.5] [1,2 {} {a:1} {a:{b:{c:1}}} {a:1 {1:2} {kind:linear}
{kind:mlp,hidden_sizes:[8]} {null:1} {a:[]} [{}] {:} {a} {a:b:c} 1,2 a,b ,a a, ,, [a,]
${seed} ${nope} ${trainer.total_steps} ${.batch_size} ${..seed} ${env} ${trainer} ${oc.env:HOME} ${oc.env:NOPE_}
${oc.env:NOPE_,3} ${now:%Y} ${hydra:job.name} ${run_folder:a,b} ${run_folder:a} ${nope:1} ${oc.decode:'1'}
${oc.decode:'['} ${oc.create:{a:1}} ${oc.select:nope,3} ${oc.dict.keys:env} ${oc.deprecated:a} ${ ${} } $ $$
${${seed}} ${a${b}} $seed ${seed ${resume} ${name}-${seed} ${name}${nope} \${seed}
' '' ''' " "" 'a "a 'a' "a" \ \\ \' \" [ ] { } ( ) () = == a=b : :: a:b # % & * @ ! ? | ; < > ` ^ , . .. / // - --
!!python/object:os.system &a *a <<: `id` $(id) $((1)) ;id |id >x 2>&1 %s %d %(a)s {0} {a!r} {{}} \n \x00 \u0000
-h --help -1e3 +a ++ +~ ~a @pkg a@b a.b a/b a..b
"""
NUMBERS = [*_NUMBERS.split(), "1" + "0" * 400, "9" * 5000, "0." + "0" * 400 + "1"]
WORDS = _WORDS.split()
SPACES_AND_CONTROLS = [
    *("", " ", "  a  ", "a b", "a\nb", "\n", "\r\n", "\t", "a: 1\nb: 2"),
    *("\x1b[31mred\x1b[0m", "\x07", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\u200b"),
]
# With an accent, composed of two; beyond the basic plane; a byte that is no UTF-8; digits that are not ASCII.
LETTERS = ["é", "e\u0301", "😀", "𐀀", "\udcff", "\u0661\u0662", "²", "½", "∞", "\uff21\uff22", "\u0131"]
LONG = ["x" * 300, "x" * 20_000, "[" * 200, "{a:" * 100, "${" * 100, "'" * 501, "\\" * 501, ",".join("0" * 3000)]
MAPS = ["G", "SG", "S\nG", "GG\nGG", "#G", "HG", "S#G", "\n", "SG\n\n\n", "S.G\n.", "S" + "." * 3000 + "G"]
ENVIRONMENT_IDS = """
Pendulum-v1 CartPole CartPole-v99 Acrobot-v1 CliffWalking-v1 FrozenLake-v1 ALE/Pong-v5 dqn/GridWorld-v0
os:CartPole-v1 nope:CartPole-v1 nope.deep:X-v0 :CartPole-v1 math: a:b:c
""".split()  # noqa: SIM905  # read more easily so
GAMES = ["pong", "Pong", "seaquest", "breakot", "joust", "../pong", "pong.bin", "tetris"]
PREFIXES = ["+{}={}", "++{}={}", "~{}={}", "~{}", "{}", "{}=", "={1}", "+{}", "+~{}={}", "{}=={}", "{} = {}"]
FLAGS = ["--cfg", "--cfg=job", "--info", "--resolve", "--help", "--nope", "-x", "-", "-m"]
# In the folder where a command runs "run" is a whole run, "full" a folder with something else in it.
PLACES = [
    "run",
    "full",
    "empty",
    "file",
    "missing",
    "missing/deep/er",
    "file/below",
    "run/config.yaml",
    ".",
    "a b",
    "é😀",
]
FOLDERS = [*PLACES, "null", "[1]", "${name}", "${nope}", "x" * 300, "\udcff", "a\nb"]
SWEEPS = [
    *(["seed=0,1"], ["seed=range(0,2)"], ["optimizer.learning_rate=1e-3,1e-2"], ["network=mlp,tabular"]),
    *(["seed=0,0"], ["seed=0,-1"], ["seed=choice(1)"], ["seed=interval(0,1)"], ["algorithm.discount=0.9,2"]),
    *(
        ["seed=range(0,1e99)"],
        ["resume=run,run"],
        ["hydra/sweeper=optuna"],
        ["sweep=cartpole"],
        ["sweep=cartpole", "hydra/sweeper=pbt"],
    ),
    ["hydra/sweeper=optuna", "optimizer.learning_rate=interval(1e-4,1e-2)"],
    ["hydra/sweeper=optuna", "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))", "hydra/sweeper/pruner=median"],
    ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "algorithm.discount=0.9,0.99"],
    ["hydra/sweeper=optuna", "sweep.space={optimizer.learning_rate:{type:float,low:0,high:1}}"],
    ["hydra/sweeper=optuna", "sweep.space={seed:{type:int,low:0,high:1}}"],
    ["hydra/sweeper=pbt", "optimizer.learning_rate=interval(1e-4,1e-2)"],
]
