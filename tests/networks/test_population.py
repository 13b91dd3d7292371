"""A population against plain modules one by one, and a learner of many against lone learners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dqn.algorithms.dqn import DQN
from dqn.algorithms.losses import Huber, SquaredError
from dqn.compilation import _traced
from dqn.envs.base import EnvironmentSpec
from dqn.learner import Learner
from dqn.memory.batch import Batch
from dqn.networks.initialization import initialize
from dqn.networks.population import _ELEMENTWISE, Population, flatten_parameters, member_network
from dqn.networks.q_network import ACTIVATIONS, mlp, nips_cnn, tabular
from dqn.optim import SGD, Adam, CenteredRMSProp, RMSProp
from dqn.target import NoTarget, PeriodicTarget, TargetRule

CPU = torch.device("cpu")
N, A = 6, 3


def make_spec(shape: tuple[int, ...], dtype: str, num_states: int | None = None) -> EnvironmentSpec:
    return EnvironmentSpec(
        frame_shape=shape,
        frame_dtype=dtype,
        frame_stack=1,
        num_states=num_states,
        num_actions=A,
        action_meanings=("a", "b", "c"),
        frames_per_step=1,
        max_episode_steps=None,
    )


VECTOR, IMAGE = make_spec((4,), "float32"), make_spec((2, 36, 36), "uint8")
STATES = make_spec((), "int64", num_states=9)

# name: members, the environment, the network, observations of a member
CASES = {
    "mlp": (3, VECTOR, lambda: mlp(VECTOR, [16, 8], "tanh")),
    "mlp_of_states": (3, STATES, lambda: mlp(STATES, [16], "relu")),
    "mlp_of_images": (3, IMAGE, lambda: mlp(IMAGE, [4], "relu")),
    "tabular": (3, STATES, lambda: tabular(STATES)),
    "cnn": (2, IMAGE, lambda: nips_cnn(IMAGE)),
    "mlp_alone": (1, VECTOR, lambda: mlp(VECTOR, [16, 8], "elu")),
    "cnn_alone": (1, IMAGE, lambda: nips_cnn(IMAGE)),
}


def observations_of(spec: EnvironmentSpec, *batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if spec.num_states is not None:
        return torch.randint(spec.num_states, batch, generator=generator)
    if spec.is_image:
        return torch.randint(256, (*batch, *spec.frame_shape), generator=generator).to(torch.uint8)
    return torch.randn(*batch, *spec.frame_shape, generator=generator)


class Case:
    def __init__(self, name: str) -> None:
        self.members, self.spec, make = CASES[name]
        self.networks = [make() for _ in range(self.members)]
        for seed, network in enumerate(self.networks):
            initialize(network, "torch", seed)
        self.template = make()  # other weights: only its structure may count
        self.parameters = flatten_parameters(self.networks, CPU)
        self.population = Population(self.template, self.parameters)
        self.observations = observations_of(self.spec, self.members, N)

    def plain(self) -> Tensor:
        return torch.stack([net(obs) for net, obs in zip(self.networks, self.observations, strict=True)])


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_values_are_those_of_the_plain_modules(case: Case) -> None:
    q = case.population(case.observations)
    assert q.shape == (case.members, N, A)
    torch.testing.assert_close(q, case.plain(), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_plain_modules(case: Case) -> None:
    """Of losses that differ between members, so that a mix-up or a wrong scale shows."""
    weights = torch.arange(1.0, case.members + 1)
    losses = weights * case.population(case.observations).square().mean((1, 2))
    gradients = case.population.gradients(losses)
    assert gradients.shape == case.parameters.shape
    for m, network in enumerate(case.networks):
        (weights[m] * network(case.observations[m]).square().mean()).backward()
        expected = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        torch.testing.assert_close(gradients[m], expected, rtol=1e-4, atol=1e-6)
    assert len({tuple(row.tolist()) for row in gradients}) == case.members


def test_values_and_gradients_as_functions_of_the_parameters_are_the_same(case: Case) -> None:
    def total(parameters: Tensor) -> tuple[Tensor, Tensor]:
        q = case.population.apply(parameters, case.observations)
        return q.square().mean((1, 2)).sum(), q

    gradients, q = torch.func.grad(total, has_aux=True)(case.parameters)
    expected = case.population(case.observations)
    torch.testing.assert_close(q, expected, rtol=1e-5, atol=1e-6)
    expected_gradients = case.population.gradients(expected.square().mean((1, 2)))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_known_to_work_on_columns(name: str) -> None:
    called = set()

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.add(func)
            return func(*args, **(kwargs or {}))

    with Recorder():
        ACTIVATIONS[name]()(torch.zeros(2, 3))
    assert called & _ELEMENTWISE


def test_all_at_once_is_one_by_one(case: Case) -> None:
    together = case.population(case.observations)
    gradients = case.population.gradients(together.square().mean((1, 2)))
    for m in range(case.members):
        alone = Population(case.template, case.parameters[m : m + 1])
        q = alone(case.observations[m : m + 1])
        torch.testing.assert_close(q[0], together[m], rtol=1e-5, atol=1e-6)
        (gradient,) = alone.gradients(q.square().mean((1, 2)))
        torch.testing.assert_close(gradient, gradients[m], rtol=1e-4, atol=1e-6)


def test_members_change_with_the_flat_parameters(case: Case) -> None:
    case.population(case.observations)
    case.parameters.mul_(0.5).add_(0.01)
    for network in case.networks:
        for parameter in network.parameters():
            parameter.data.mul_(0.5).add_(0.01)
    torch.testing.assert_close(case.population(case.observations), case.plain(), rtol=1e-5, atol=1e-6)


def test_one_members_parameters_are_its_own(case: Case) -> None:
    before = case.population(case.observations).detach()
    case.parameters[-1].add_(0.1)
    after = case.population(case.observations).detach()
    torch.testing.assert_close(after[:-1], before[:-1], rtol=0, atol=0)
    assert not torch.allclose(after[-1], before[-1])


def test_a_member_as_a_network_of_its_own(case: Case) -> None:
    """Round trip: networks -> flat -> networks, bit for bit; what the population learns later leaves it alone."""
    taken = [member_network(case.template, row) for row in case.parameters]
    case.parameters.zero_()
    for mine, original in zip(taken, case.networks, strict=True):
        assert not mine.training
        assert mine.state_dict().keys() == original.state_dict().keys()
        for name, tensor in original.state_dict().items():
            assert torch.equal(mine.state_dict()[name], tensor)
    torch.testing.assert_close(flatten_parameters(taken, CPU), flatten_parameters(case.networks, CPU), rtol=0, atol=0)


def test_the_template_is_left_alone(case: Case) -> None:
    before = flatten_parameters([case.template], CPU)
    case.parameters.fill_(7.0)
    case.population.gradients(case.population(case.observations).mean((1, 2)))
    assert torch.equal(flatten_parameters([case.template], CPU), before)
    assert all(parameter.grad is None for parameter in case.template.parameters())


# --- the learner ---

M, B = 3, 5
DISCOUNT = torch.tensor([0.9, 0.99, 0.5])
RATES = torch.tensor([0.01, 0.03, 0.1])
MAX_NORMS = torch.tensor([0.05, float("inf"), 0.3])
TRAITS = torch.tensor([0.9, 0.5, 0.0])  # of an optimizer: a decay, a momentum


def make_networks() -> list[nn.Module]:
    networks: list[nn.Module] = [mlp(VECTOR, [8, 8], "tanh") for _ in range(M)]
    for seed, network in enumerate(networks):
        initialize(network, "torch", seed)
    return networks


def make_learner(
    members: Sequence[int], optimizer: str = "adam", double: bool = False, shared: bool = False
) -> Learner:
    """Of some of the three members, each with traits of its own."""
    at = list(members)
    decay, epsilon = TRAITS[at], torch.tensor([1e-8, 1e-4, 1e-2])[at]
    target_rule: TargetRule = PeriodicTarget(tuple([4, 1, 6][m] for m in at), torch.tensor([1.0, 0.1, 0.5])[at])
    return Learner(
        template=mlp(VECTOR, [8, 8], "tanh"),
        parameters=flatten_parameters([make_networks()[m] for m in at], CPU),
        algorithm=DQN(
            double, nn.Identity(), Huber(torch.tensor([1.0, 0.1, 2.0])[at]) if double else SquaredError(DISCOUNT[at])
        ),
        optimizer={
            "adam": Adam(decay, torch.tensor([0.999, 0.9, 0.99])[at], epsilon),
            "rmsprop": RMSProp(decay, epsilon),
            "rmsprop_centered": CenteredRMSProp(decay, epsilon),
            "sgd": SGD(decay),
        }[optimizer],
        target_rule=NoTarget() if shared else target_rule,
        max_gradient_norm=MAX_NORMS[at],
    )


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(1000 + seed)
    return Batch(
        obs_tm1=observations_of(VECTOR, M, B, seed=2 * seed),
        a_tm1=torch.randint(A, (M, B), generator=generator),
        r_t=torch.randn(M, B, generator=generator),
        discount_t=DISCOUNT.unsqueeze(-1) * (torch.rand(M, B, generator=generator) < 0.8),
        obs_t=observations_of(VECTOR, M, B, seed=2 * seed + 1),
    )


def part(batch: Batch, members: Sequence[int]) -> Batch:
    return Batch(*[tensor[list(members)] for tensor in batch])


def state_copy(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.state_dict().items()}


OPTIMIZERS = ["adam", "rmsprop", "rmsprop_centered", "sgd"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("double", [False, True], ids=["dqn", "double_dqn"])
@pytest.mark.parametrize("shared", [False, True], ids=["target_network", "no_target_network"])
def test_three_members_learn_as_three_alone(optimizer: str, double: bool, shared: bool) -> None:
    together = make_learner(range(M), optimizer, double, shared)
    alone = [make_learner([m], optimizer, double, shared) for m in range(M)]
    start = together.parameters.clone()
    for step in range(12):
        batch = make_batch(step)
        metrics, priorities = together.update(batch, RATES)
        together.update_target(step, step + 1)
        for m, learner in enumerate(alone):
            mine, my_priorities = learner.update(part(batch, [m]), RATES[[m]])
            learner.update_target(step, step + 1)
            for field, value in zip((*metrics, priorities), (*mine, my_priorities), strict=True):
                torch.testing.assert_close(field[[m]], value, rtol=1e-4, atol=2e-6)
    for m, learner in enumerate(alone):
        for name, tensor in together.state_dict().items():
            torch.testing.assert_close(tensor[[m]], learner.state_dict()[name], rtol=1e-4, atol=2e-6)
        # All have learned, so that there was something to get wrong.
        assert (together.parameters[m] - start[m]).abs().max() > 1e-3


@pytest.mark.parametrize("is_weighted", [False, True])
def test_an_update_is_what_plain_pytorch_does(is_weighted: bool) -> None:
    """DQN with a target network, gradients clipped to a norm, and SGD with momentum, for 10 updates."""
    learner, networks, targets = make_learner(range(M), "sgd"), make_networks(), make_networks()
    velocities = [torch.zeros_like(row) for row in learner.parameters]
    clipped = set()
    for step in range(10):
        batch = make_batch(step)
        weights = torch.rand(M, B, generator=torch.Generator().manual_seed(step)) if is_weighted else None
        metrics, priorities = learner.update(batch, RATES, weights=weights)
        for m, (online, target) in enumerate(zip(networks, targets, strict=True)):
            with torch.no_grad():
                wanted = batch.r_t[m] + batch.discount_t[m] * target(batch.obs_t[m]).max(-1).values
            q = online(batch.obs_tm1[m])[torch.arange(B), batch.a_tm1[m]]
            of_each = DISCOUNT[m] * (wanted - q).square()
            loss = (of_each if weights is None else weights[m] * of_each).mean()
            torch.testing.assert_close(priorities[m], (wanted - q).abs().detach(), rtol=1e-4, atol=2e-6)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(online.parameters()))])
            norm = gradient.norm()
            expected = [loss, q.mean(), (wanted - q).abs().mean(), norm]
            torch.testing.assert_close([value[m] for value in metrics], expected, rtol=1e-4, atol=2e-6)
            if norm > MAX_NORMS[m]:
                gradient *= MAX_NORMS[m] / norm
                clipped.add(m)
            velocities[m] = TRAITS[m] * velocities[m] + gradient
            moved = nn.utils.parameters_to_vector(online.parameters()) - RATES[m] * velocities[m]
            nn.utils.vector_to_parameters(moved.detach(), online.parameters())
        torch.testing.assert_close(learner.parameters, flatten_parameters(networks, CPU), rtol=1e-4, atol=1e-6)
        assert torch.equal(learner.target_parameters, flatten_parameters(targets, CPU))
    assert 0 in clipped
    assert 1 not in clipped


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_that_do_not_learn_now_keep_every_bit(optimizer: str) -> None:
    """Even where their batches hold no numbers; the others learn as if nobody were left out."""
    masked, unmasked = make_learner(range(M), optimizer), make_learner(range(M), optimizer)
    for step in range(3):
        for learner in (masked, unmasked):
            learner.update(make_batch(step), RATES)
    before = state_copy(masked)
    active = torch.tensor([True, False, True])
    for step in range(3, 6):
        batch = make_batch(step)
        unmasked.update(batch, RATES)
        batch.r_t[1] = float("nan")
        masked.update(batch, RATES, active)
    for name, tensor in masked.state_dict().items():
        assert torch.equal(tensor[1], before[name][1]), name
        assert torch.equal(tensor[active], unmasked.state_dict()[name][active]), name
        assert name == "target_parameters" or not torch.equal(tensor[active], before[name][active]), name


def test_a_mask_of_all_is_no_mask_and_a_mask_of_none_changes_nothing() -> None:
    masked, unmasked = make_learner(range(M)), make_learner(range(M))
    for step in range(3):
        masked.update(make_batch(step), RATES, torch.ones(M, dtype=torch.bool))
        unmasked.update(make_batch(step), RATES)
    masked.update(make_batch(3), RATES, torch.zeros(M, dtype=torch.bool))
    for name, tensor in unmasked.state_dict().items():
        assert torch.equal(masked.state_dict()[name], tensor)


def test_the_target_network_is_used_until_it_is_moved() -> None:
    """Q-values come from the online network; member 1's target alone has moved after the first step."""
    learner = make_learner(range(M))
    start = learner.parameters.clone()
    learner.update(make_batch(0), RATES)
    assert not torch.equal(learner.parameters, start)
    assert torch.equal(learner.target_parameters, start)
    learner.update_target(0, 1)
    moved = start[1] + 0.1 * (learner.parameters[1] - start[1])
    assert torch.equal(learner.target_parameters[[0, 2]], start[[0, 2]])
    torch.testing.assert_close(learner.target_parameters[1], moved)
    observations = observations_of(VECTOR, M, N)
    for m in range(M):
        online = member_network(learner.template, learner.parameters[m])(observations[m])
        torch.testing.assert_close(learner.q_values(observations)[m], online, rtol=1e-5, atol=1e-6)
    assert not learner.q_values(observations).requires_grad


@pytest.mark.parametrize("shared", [False, True], ids=["target_network", "no_target_network"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_learner_goes_on_as_the_one_that_was_saved(optimizer: str, shared: bool) -> None:
    learner, restored = (make_learner(range(M), optimizer, shared=shared) for _ in range(2))
    restored.update(make_batch(99), RATES)  # so that it stands elsewhere
    for step in range(5):
        learner.update(make_batch(step), RATES)
        learner.update_target(step, step + 1)
    restored.load_state_dict(state_copy(learner))
    for step in range(5, 15):
        for each in (learner, restored):
            each.update(make_batch(step), RATES)
            each.update_target(step, step + 1)
    for name, tensor in learner.state_dict().items():
        assert torch.equal(restored.state_dict()[name], tensor)


@pytest.mark.parametrize(("name", "how"), [("mlp", nullcontext), ("cnn", nullcontext), ("mlp", _traced),
                                           ("mlp_alone", _traced)])  # fmt: skip
def test_half_precision_is_close_to_single_and_its_parameters_stay_single(name: str, how: Callable[[], Any]) -> None:
    """Also in the form that is compiled."""
    case = Case(name)
    members = case.members
    traits = torch.full((members,), 0.5)

    def make(precision: torch.dtype) -> Learner:
        rule = PeriodicTarget((1,) * members, traits)
        unclipped = torch.full((members,), float("inf"))
        loss = Huber(torch.ones(members))
        return Learner(
            case.template,
            case.parameters.clone(),
            DQN(True, nn.Identity(), loss),
            SGD(traits),
            rule,
            unclipped,
            precision,
        )

    single, half = make(torch.float32), make(torch.bfloat16)
    batch = Batch(
        obs_tm1=case.observations,
        a_tm1=torch.zeros(members, N, dtype=torch.int64),
        r_t=torch.ones(members, N),
        discount_t=torch.full((members, N), 0.9),
        obs_t=observations_of(case.spec, members, N, seed=1),
    )
    q = single.q_values(case.observations)
    with how():
        q_half = half.q_values(case.observations)
    assert q_half.dtype == half.parameters.dtype == torch.float32
    assert not torch.equal(q, q_half)
    torch.testing.assert_close(q_half, q, rtol=0.05, atol=0.01)
    norms = single.update(batch, torch.full((members,), 0.1))[0].gradient_norm
    with how():
        norms_half = half.update(batch, torch.full((members,), 0.1))[0].gradient_norm
    torch.testing.assert_close(norms_half, norms, rtol=0.05, atol=0.01)
    change, change_half = (learner.parameters - case.parameters for learner in (single, half))
    assert torch.nn.functional.cosine_similarity(change, change_half).min() > 0.99
