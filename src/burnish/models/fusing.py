"""Layers that keep less for the backward pass and read memory less often: norms, gated MLPs, low-rank adapters.

Written out as single operations, autograd keeps every intermediate result of these in fp32 or in the layer's full
width. Here each is one function with its derivative by hand. Values are the ones the model's own module gives, bit for
bit (an adapter's: one rounding less). Which modules fit is found out by trying, so that a family that computes
otherwise is left as it is.

A matrix product keeps its input for the gradient of its weights. Where that input is what a norm or a gate gave, it is
not kept but made again from what they keep, which takes no matrix product: a third of all that is kept.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, silu

from burnish.models.experts import experts_of
from burnish.models.kernels import few_kernels
from burnish.models.logprobs import backbone_of
from burnish.models.native import layers
from burnish.models.native.linear import fits, weight_gradient

aten = torch.ops.aten


@contextmanager
def fused_layers(model: Any, wanted: bool = True) -> Iterator[None]:
    """Replace what fits in a model's layers while this lasts. Weights, names and what is saved stay as they are."""
    if not wanted:
        yield
        return
    found: list[tuple[Any, Callable[..., Tensor]]] = []
    norms: dict[type, tuple[float, bool] | None] = {}
    experts: dict[type, bool] = {}
    for module in backbone_of(model).modules():
        if "forward" in vars(module):  # experts that are held in four bits
            continue
        forward = _norm_of(module, norms) or _gated_of(module) or _adapted_of(module) or _linear_of(module)
        forward = forward or experts_of(module, experts)
        if forward is not None:
            found.append((module, forward))
    for module, forward in found:
        module.forward = forward
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack), _rotations(model):
            yield
    finally:
        for module, _ in found:
            del module.forward


# -- what is made again


class _Again:
    """Something that is not kept. All that keep this instead share what the first of them makes; the backward pass
    lets go of each when it is done with it, and the last one ends it."""

    def __init__(self, make: Callable[[], Tensor], version: int) -> None:
        self._make = make
        self.version = version
        """How often it had been changed in place; what is made again is it as it was then."""
        self._made: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._made is None:
            self._made = self._make()
        return self._made


_AGAIN: dict[int, _Again] = {}
"""How to make again what lies at an address, for as long as the tensor that was first put there lives."""


def _made_by(make: Callable[[], Tensor], result: Tensor) -> Tensor:
    """Let what keeps a result for the backward pass keep instead how it is made."""
    if not result.requires_grad:
        return result
    address = result.data_ptr()
    _AGAIN[address] = _Again(make, result._version)
    weakref.finalize(result, _AGAIN.pop, address, None)
    return result


def _pack(kept: Tensor) -> Tensor | tuple[_Again, torch.Size, tuple[int, ...]]:
    again = _AGAIN.get(kept.data_ptr())
    if again is None or again.version != kept._version:
        return kept
    return again, kept.shape, kept.stride()


def _unpack(packed: Tensor | tuple[_Again, torch.Size, tuple[int, ...]]) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    again, shape, stride = packed
    return again().as_strided(shape, stride)


# -- root-mean-square norms


def _norm_of(module: Any, known: dict[type, tuple[float, bool] | None]) -> Callable[[Tensor], Tensor] | None:
    """A module's norm as one function, if it is one of `NORMS`."""
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or getattr(weight, "ndim", None) != 1:
        return None
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(epsilon, float):
        return None
    if type(module) not in known:
        known[type(module)] = _kind_of(module, epsilon)
    kind = known[type(module)]
    return None if kind is None else partial(_norm, module, epsilon, *kind)


def _norm(module: Any, epsilon: float, offset: float, early: bool, x: Tensor) -> Tensor:
    result: Tensor = _Norm.apply(x, module.weight, epsilon, offset, early)
    source, weight = x.detach(), module.weight.detach()
    return _made_by(lambda: _normed(source, weight, epsilon, offset, early)[0], result)


@partial(few_kernels, native=layers.normed)
def _normed(x: Tensor, weight: Tensor, epsilon: float, offset: float, early: bool) -> tuple[Tensor, Tensor]:
    """The result, and 1 / rms of each row."""
    wide = x.float()
    inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    unit = wide * inverse
    return weight * unit.to(x.dtype) if early else (unit * (offset + weight.float())).type_as(x), inverse


@partial(few_kernels, native=layers.norm_slopes)
def _norm_slopes(x: Tensor, weight: Tensor, inverse: Tensor, grad: Tensor, offset: float, learns: bool
                 ) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of a norm's input, and of its weight if that learns."""
    unit = x.float().mul_(inverse)
    given = grad.to(torch.float32, copy=True)
    grad_weight = (given * unit).flatten(0, -2).sum(0).to(weight.dtype) if learns else weight
    given.mul_(offset + weight.float())
    given.addcmul_(unit, (given * unit).mean(-1, keepdim=True), value=-1).mul_(inverse)
    return given.to(x.dtype), grad_weight


NORMS = [(0.0, True), (0.0, False), (1.0, False)]
"""(what is added to the weight, whether the normed input is rounded before the weight multiplies it): Llama, Qwen,
Mistral and LFM2; OLMo 2; Gemma."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def _kind_of(module: Any, epsilon: float) -> tuple[float, bool] | None:
    """Which of `NORMS` gives exactly what a module of this kind gives, with other weights than one or zero."""
    tried = copy.deepcopy(module)
    draw = torch.Generator().manual_seed(0)
    tried.weight.copy_(torch.randn(tried.weight.shape, generator=draw))
    x = torch.randn(8, *tried.weight.shape, generator=draw).to(tried.weight)
    expected = tried(x)
    given = (_normed.plain(x, tried.weight, epsilon, *kind)[0] for kind in NORMS)
    return next((kind for kind, found in zip(NORMS, given, strict=True) if torch.equal(found, expected)), None)


class _Norm(torch.autograd.Function):  # type: ignore[misc]
    """y = (w + offset) x / rms(x) (arXiv:1910.07467); keeps x as it came and 1 / rms(x) of each row.

    With u = x / rms and g = dy (w + offset): dx = (g - u mean(g u)) / rms, dw = sum of dy u.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, offset: float, early: bool) -> Tensor:
        result, inverse = _normed(x, weight, epsilon, offset, early)
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        learns = ctx.needs_input_grad[1]
        grad_x, grad_weight = _norm_slopes(x, weight, inverse, grads[0], ctx.offset, learns)
        return grad_x, grad_weight if learns else None, None, None, None


# -- gated MLPs


@torch.no_grad()  # type: ignore[untyped-decorator]
def _gated_of(module: Any) -> Callable[[Tensor], Tensor] | None:
    """An MLP's forward that keeps gate and up projection alone, if the module computes down(act(gate) * up)."""
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(callable(getattr(module, name, None)) for name in names) or _drops(module):
        return None
    gate, up, down, act = (getattr(module, name) for name in names)
    width = getattr(gate, "in_features", None)
    if not isinstance(width, int):
        return None
    weight = next(module.parameters())
    kind = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
    x = torch.randn(2, width, generator=torch.Generator().manual_seed(0)).to(weight.device, kind)
    gates, values = gate(x), up(x)
    expected = module(x)
    fits = (name for name in ACTS if torch.equal(down(_gated.plain(gates, values, name)), expected))
    act = next(fits, None)
    return None if act is None else partial(_gated_mlp, gate, up, down, act)


def _drops(module: Any) -> bool:
    """Whether a module has dropout of its own, which shows in training alone (Seed-OSS)."""
    numbers = [value for name, value in vars(module).items() if "dropout" in name and isinstance(value, int | float)]
    return any(numbers) or any(isinstance(child, torch.nn.Dropout) and child.p for child in module.children())


def _gated_mlp(gate: Any, up: Any, down: Any, act: str, x: Tensor) -> Tensor:
    gates, values = gate(x), up(x)
    product = _Gated.apply(gates, values, act)
    gates, values = gates.detach(), values.detach()
    result: Tensor = down(_made_by(lambda: _gated(gates, values, act), product))
    return result


ACTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (silu, aten.silu_backward),
    "gelu": (gelu, aten.gelu_backward),
    "gelu_tanh": (partial(gelu, approximate="tanh"), partial(aten.gelu_backward, approximate="tanh")),
}
"""Activations, each with what it makes of a gradient and its input."""


@partial(few_kernels, native=layers.gated)
def _gated(gate: Tensor, up: Tensor, act: str) -> Tensor:
    return ACTS[act][0](gate) * up


@partial(few_kernels, native=layers.gated_slopes)
def _gated_slopes(gate: Tensor, up: Tensor, grad: Tensor, act: str) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up projection."""
    active, slope = ACTS[act]
    return slope(grad * up, gate), grad * active(gate)


class _Gated(torch.autograd.Function):  # type: ignore[misc]
    """act(gate) * up (arXiv:2002.05202); act(gate) is made again in the backward pass. Gate and up are this function's
    alone, so their gradients may take their place."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: str) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return _gated(gate, up, act)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        return *_gated_slopes(gate, up, grads[0], ctx.act), None


# -- rotary positions

ROTATION = "apply_rotary_pos_emb"
"""What families' files call the function that turns queries and keys by their positions (arXiv:2104.09864)."""


@contextmanager
def _rotations(model: Any) -> Iterator[None]:
    """Put our own in the place of the rotation of a family's file, if it computes the usual one."""
    families = {type(module).__module__ for module in backbone_of(model).modules()}
    found = {file: getattr(file, ROTATION) for file in map(sys.modules.__getitem__, families)
             if hasattr(file, ROTATION) and _is_usual(getattr(file, ROTATION))}  # fmt: skip
    for file, theirs in found.items():
        setattr(file, ROTATION, partial(_rotation, theirs))
    try:
        yield
    finally:
        for file, theirs in found.items():
            setattr(file, ROTATION, theirs)


def _is_usual(theirs: Callable[..., tuple[Tensor, Tensor]]) -> bool:
    draw = torch.Generator().manual_seed(0)
    shapes = ((1, 4, 3, 8), (1, 2, 3, 8), (1, 3, 8), (1, 3, 8))
    query, key, cos, sin = (torch.randn(shape, generator=draw).bfloat16() for shape in shapes)
    if not layers.rotates(query, cos, sin):
        return False
    try:
        expected = theirs(query, key, cos, sin)
    except (TypeError, RuntimeError):  # another signature
        return False
    mine = (layers.rotated(query, cos, sin), layers.rotated(key, cos, sin))
    return all(torch.equal(one, other) for one, other in zip(mine, expected, strict=True))


def _rotation(theirs: Callable[..., tuple[Tensor, Tensor]], query: Tensor, key: Tensor, cos: Tensor, sin: Tensor,
              *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:  # fmt: skip
    if rest or named or not (layers.rotates(query, cos, sin) and layers.rotates(key, cos, sin)):
        return theirs(query, key, cos, sin, *rest, **named)
    return _Rotated.apply(query, cos, sin), _Rotated.apply(key, cos, sin)


class _Rotated(torch.autograd.Function):  # type: ignore[misc]
    """Each pair of numbers turned by its position's angle; the gradient is turned back.

    What a linear layer gave is not kept by anyone and used by nobody else, so the result takes its place: 30 layers'
    tensors that come and go leave holes in a heap. What a norm gave is there to be made again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return layers.rotated(x, cos, sin, in_place=x.data_ptr() not in _AGAIN)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        return (
            layers.rotated(grad if grad.stride(-1) == 1 else grad.contiguous(), *ctx.saved_tensors, back=True),
            None,
            None,
        )


# -- linear layers


def _linear_of(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward pass of a linear layer whose weights learn, where their gradient has a kernel of its own."""
    if type(module) is not torch.nn.Linear or not module.weight.requires_grad or not fits(module.weight):
        return None
    return partial(_linear, module)


def _linear(module: Any, x: Tensor) -> Tensor:
    result: Tensor = _Linear.apply(x, module.weight, module.bias)
    return result


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    """y = x W' + b; dx = dy W, dW = dy' x, db = sum of dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        given = grads[0].reshape(-1, len(weight))
        grad_x = (given @ weight).view(x.shape) if ctx.needs_input_grad[0] else None
        grad_bias = given.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, weight_gradient(given.contiguous(), x.reshape(-1, x.shape[-1])), grad_bias


# -- adapters


def _adapted_of(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward pass of a linear layer with one plain adapter on frozen weights."""
    if not hasattr(module, "lora_A"):
        return None
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or module.merged or module.disable_adapters or module.lora_variant:
        return None
    base, active = module.base_layer, module.active_adapters
    if type(base) is not torch.nn.Linear or len(active) != 1 or active[0] not in module.lora_A:
        return None
    (name,) = active
    down, up = module.lora_A[name], module.lora_B[name]
    plain = isinstance(module.lora_dropout[name], torch.nn.Identity) and up.bias is None
    learned = [base.weight, *([] if base.bias is None else [base.bias])]
    if not plain or any(one.requires_grad for one in learned) or down.weight.dtype != base.weight.dtype:
        return None
    return partial(_adapted, base, down, up, module.scaling[name])


def _adapted(base: Any, down: Any, up: Any, scale: float, x: Tensor) -> Tensor:
    result: Tensor = _Adapted.apply(x, base.weight, base.bias, down.weight, up.weight, scale)
    return result


class _Adapted(torch.autograd.Function):  # type: ignore[misc]
    """y = x W' + b + s (x A') B' with W and b frozen (arXiv:2106.09685 section 4.1).

    The low-rank part is added by the matrix product itself, forward and backward: written out, it takes ten passes over
    tensors of the layer's full width, which cost more than its products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
                ) -> Tensor:  # fmt: skip
        flat = x.flatten(0, -2)
        inner = linear(flat, down)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return linear(flat, weight, bias).addmm_(inner, up.T, alpha=scale).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, inner = ctx.saved_tensors
        given = grads[0].flatten(0, -2)
        pulled = (given @ up).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (given @ weight).addmm_(pulled, down).unflatten(0, x.shape[:-1])
        return grad_x, None, None, pulled.T @ x.flatten(0, -2), (given.T @ inner).mul_(ctx.scale), None
