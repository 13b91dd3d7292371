"""Train what the configuration says: `python scripts/train.py experiment=cartpole seed=1`; see --help."""

from dqn.cli import run_command, train_command

if __name__ == "__main__":
    run_command(train_command)
