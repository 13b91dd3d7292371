"""Many networks of one shape as one: their parameters side by side in a flat tensor (M, P)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dqn.compilation import is_tracing
from dqn.networks.implicit import ImplicitQuantiles
from dqn.networks.noisy import NoisyLinear

_ELEMENTWISE = {F.relu, F.elu, F.silu, torch.tanh, torch.sigmoid}  # the activations of `dqn.networks.q_network`
_NARROW = 16  # outputs of a layer; with more the products below are nearly as fast either way


def flatten_parameters(networks: Sequence[nn.Module], device: torch.device) -> Tensor:
    """The parameters of M networks of one shape, (M, P) float32, in the order of `named_parameters`."""
    rows = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
    return torch.stack(rows).to(device)


class Population:
    """M members of one network, whose parameters are views of the flat tensor that was given.

    A member is a plain module: with M = 1, or with convolutions on a CPU, members are applied one after the other
    (a grouped convolution is slower there); otherwise all at once by `torch.vmap`. While they are traced, one alone
    is a stack of one, whose layers work on columns.

    Attributes:
        noise_size: how many numbers of noise a member takes, 0 without noisy layers.

    Args:
        template: the single-member module; only its structure is used.
        parameters: (M, P); whatever changes it in place changes the members.
    """

    def __init__(self, template: nn.Module, parameters: Tensor) -> None:
        members = parameters.shape[0]
        convolves = any(isinstance(layer, nn.Conv2d) for layer in template.modules())
        self._template = copy.deepcopy(template).to(parameters.device)
        self._parameters = parameters
        self._shapes = {name: parameter.shape for name, parameter in template.named_parameters()}
        modules = dict(template.named_modules())
        self._noise_sizes = {
            f"{name}.noise": len(layer.noise) for name, layer in modules.items() if isinstance(layer, NoisyLinear)
        }
        self.noise_size = sum(self._noise_sizes.values())
        self._fraction_names = [f"{n}.fractions" for n, one in modules.items() if isinstance(one, ImplicitQuantiles)]
        self._can_stack = not convolves or parameters.device.type != "cpu"
        self._one_by_one: list[nn.Module] = []
        self._stacked: dict[str, Tensor] = {}
        self._leaves: list[list[Tensor]] = []  # per member, or one list for all
        if members == 1 or not self._can_stack:
            self._one_by_one = [self._bind(row) for row in parameters]
            self._leaves = [list(network.parameters()) for network in self._one_by_one]
        else:
            self._stacked = self._views(parameters)
            self._leaves = [list(self._stacked.values())]

    def __call__(self, observations: Tensor, noise: Tensor | None = None, fractions: Tensor | None = None) -> Tensor:
        """What the members say of each action.

        Args:
            observations: (M, N, *observation), as the environment gives them.
            noise: for noisy layers, (M, `noise_size`); None for none.
            fractions: at which quantiles are wanted of a network of implicit ones, (M, K) or (M, N, K); None for its
                own.

        Returns:
            (M, N, A), or (M, N, A, K).
        """
        if is_tracing():
            return self.apply(self._parameters, observations, noise, fractions)
        inputs = self._inputs(noise, fractions)
        if self._one_by_one:
            q = [
                functional_call(network, {name: tensor[m] for name, tensor in inputs.items()}, (observations[m],))
                if inputs
                else network(observations[m])
                for m, network in enumerate(self._one_by_one)
            ]
            return q[0].unsqueeze(0) if len(q) == 1 else torch.stack(q)
        return torch.vmap(self._apply)({**self._stacked, **inputs}, observations)

    def gradients(self, losses: Tensor) -> Tensor:
        """Each member's own gradient of its loss: losses (M,) -> (M, P).

        One backward pass serves all, since a member's loss depends on its own parameters only.
        """
        leaves = [leaf for member in self._leaves for leaf in member]
        gradients = iter(torch.autograd.grad(losses.sum(), leaves))
        per_group = [[next(gradients) for _ in member] for member in self._leaves]
        if self._one_by_one:
            return torch.stack([torch.cat([g.flatten() for g in member]) for member in per_group])
        return torch.cat([g.flatten(1) for g in per_group[0]], dim=1)

    def apply(
        self,
        parameters: Tensor,
        observations: Tensor,
        noise: Tensor | None = None,
        fractions: Tensor | None = None,
    ) -> Tensor:
        """The same as a function of the parameters (M, P) too: slower, but `torch.func.grad` can take it."""
        pieces = torch.split(parameters, [shape.numel() for shape in self._shapes.values()], dim=1)
        stacked = {
            name: piece.view(-1, *shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }
        stacked |= self._inputs(noise, fractions)
        with _Columns():
            if not self._can_stack:
                members = [{name: tensor[m] for name, tensor in stacked.items()} for m in range(len(parameters))]
                return torch.stack([self._apply(p, o) for p, o in zip(members, observations, strict=True)])
            return torch.vmap(self._apply)(stacked, observations)

    def _inputs(self, noise: Tensor | None, fractions: Tensor | None) -> dict[str, Tensor]:
        """What the network takes beside observations and parameters, by name, (M, ...) each."""
        inputs: dict[str, Tensor] = {}
        if noise is not None:
            pieces = torch.split(noise, list(self._noise_sizes.values()), dim=1)
            inputs |= dict(zip(self._noise_sizes, pieces, strict=True))
        if fractions is not None:
            inputs |= dict.fromkeys(self._fraction_names, fractions)
        return inputs

    def _apply(self, parameters: dict[str, Tensor], observations: Tensor) -> Tensor:
        q: Tensor = functional_call(self._template, parameters, (observations,))
        return q

    def _views(self, parameters: Tensor) -> dict[str, Tensor]:
        """The flat tensor (M, P) as leaves by name, (M, *shape) each."""
        views, offset = {}, 0
        for name, parameter in self._template.named_parameters():
            view = parameters[:, offset : offset + parameter.numel()].view(-1, *parameter.shape)
            views[name] = view.detach().requires_grad_()
            offset += parameter.numel()
        return views

    def _bind(self, row: Tensor) -> nn.Module:
        """A copy of the template whose parameters are views of a row (P,)."""
        network = copy.deepcopy(self._template)
        for name, view in self._views(row.unsqueeze(0)).items():
            owner, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(owner), attribute, nn.Parameter(view.detach().squeeze(0)))
        return network


class _Columns(TorchFunctionMode):
    """Layers whose batches lie as (features, N) in memory, whatever they look like: no product copies an operand.

    An update of 32 stacked CartPole members, batch 128, took 4.5 ms so, and 5.1 as rows (an Intel Xeon, one thread).
    The bias is left to the kernel of the activation.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].dim() == 2:
            if func is F.linear:
                return self._linear(*args, **kwargs)
            if func in _ELEMENTWISE:
                return func(args[0].mT, *args[1:], **kwargs).mT
        return func(*args, **kwargs)

    @staticmethod
    def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # the names of PyTorch
        columns, device = input.mT, input.device.type
        if torch.is_autocast_enabled(device):  # now, since the gradient is taken outside of it
            dtype = torch.get_autocast_dtype(device)
            columns, weight = columns.to(dtype), weight.to(dtype)
        outputs: Tensor = _Product.apply(weight, columns)  # type: ignore[no-untyped-call]
        return outputs.mT if bias is None else (outputs + bias.unsqueeze(-1)).mT


class _Product(torch.autograd.Function):
    """W x, whose gradient by a W of few outputs is taken upright.

    The gradient of the Q-values comes as rows, and MKL takes twice as long where both operands are transposed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, columns: Tensor) -> Tensor:
        return weight @ columns

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, columns = ctx.saved_tensors
        is_narrow = len(gradient) < _NARROW
        of_weight = (columns @ gradient.mT).mT if is_narrow else gradient @ columns.mT
        return of_weight, weight.mT @ gradient


def member_network(template: nn.Module, parameters: Tensor, readout: nn.Module | None = None) -> nn.Module:
    """A single network of its own, on the CPU, with the parameters (P,) of one member.

    What makes Q-values of its outputs, if it is not the outputs that are, becomes its last layer. It has no noise, and
    implicit quantiles are taken at the network's own fractions.
    """
    network = copy.deepcopy(template).cpu()
    torch.nn.utils.vector_to_parameters(parameters.detach().cpu().clone(), network.parameters())
    _settle(network)
    if readout is not None and not isinstance(readout, nn.Identity):
        assert isinstance(network, nn.Sequential)
        network = nn.Sequential(*network, copy.deepcopy(readout).cpu())
    return network.eval()


def _settle(network: nn.Module) -> None:
    """Replace, in place, what depends on more than the observations."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, NoisyLinear):
            setattr(network, name, layer.mean())
            continue
        _settle(layer)
        if isinstance(layer, ImplicitQuantiles):
            setattr(network, name, layer.settled())
