"""Products of bfloat16 matrices on a CPU without instructions for them. In a process of its own: the change stays."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import torch
from burnish import hardware
hardware.has_fast_bfloat16 = lambda: {fast}
from burnish.models.widened import widen_products

draw = torch.Generator().manual_seed(0)
def some(*shape): return torch.randn(*shape, generator=draw).bfloat16()
a, b, c = some(6, 9), some(9, 5), some(6, 5)
left, right, added = some(3, 6, 9), some(3, 9, 5), some(3, 6, 5)
"""


NOTE = "this CPU has no instructions for bfloat16, so its products are made in float32"


def run(body: str, fast: bool = False) -> None:
    """Run statements after the prelude, on a CPU that has instructions for bfloat16 or says that it has none; then it
    must say once what it does."""
    code = PRELUDE.format(fast=fast) + body
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if line]
    assert len(said) == (not fast) and all(NOTE in line for line in said), said


def test_every_form_is_the_fp32_product_rounded_once() -> None:
    run("""
assert widen_products() and widen_products()
def same(found, expected): assert torch.equal(found, expected.bfloat16()), (found, expected)

product, products = a.float() @ b.float(), left.float() @ right.float()
same(a @ b, product)
same(a.T.contiguous().T @ b, product)
same(torch.mm(a, b, out=torch.empty_like(c)), product)
same(torch.addmm(c, a, b, beta=0.5, alpha=2), 0.5 * c.float() + 2 * product)
same(torch.addmm(c[0], a, b), c[0].float() + product)
same(torch.addmm(c, a, b, out=torch.empty_like(c)), c.float() + product)
same(c.clone().addmm_(a, b, alpha=-1), c.float() - product)
same(torch.bmm(left, right), products)
same(torch.bmm(left, right, out=torch.empty_like(added)), products)
same(torch.baddbmm(added, left, right, beta=0.5), 0.5 * added.float() + products)
same(torch.baddbmm(added, left, right, out=torch.empty_like(added)), added.float() + products)
same(added.clone().baddbmm_(left, right), added.float() + products)

same(torch.mm(a, b, out=torch.empty(0).bfloat16()), product)
target = torch.empty(12, 5).bfloat16()
torch.mm(a, b, out=target[6:])  # a part of a larger tensor, as a head's gradient is written
same(target[6:], product)
""")


def test_gradients_of_layers_are_products_too() -> None:
    run("""
assert widen_products()
layer = torch.nn.Linear(9, 5, bias=False).bfloat16()
x = a.clone().requires_grad_()
given = some(6, 5)
layer(x).backward(given)
assert torch.equal(x.grad, (given.float() @ layer.weight.float()).bfloat16())
assert torch.equal(layer.weight.grad, (given.float().T @ a.float()).bfloat16())
""")


def test_all_else_goes_to_torchs_own_kernels() -> None:
    run("""
wide, doubles, thin = (a.float(), b.float()), (a.double(), b.double()), (a[:2], b)
before = [x @ y for x, y in (wide, doubles, thin)]
whole = torch.arange(20).view(4, 5)
counts = whole @ whole.T
assert widen_products()
assert all(torch.equal(x @ y, old) for (x, y), old in zip((wide, doubles, thin), before))
assert torch.equal(whole @ whole.T, counts)
try:
    torch.mm(a, b, out=torch.empty(6, 5))
except RuntimeError as error:
    assert "dtype" in str(error), error
else:
    raise AssertionError("a result of another number format")
for right, why in ((c, "shapes cannot be multiplied"), (b.float(), "same dtype")):
    try:
        a @ right
    except RuntimeError as error:
        assert why in str(error), error
    else:
        raise AssertionError(why)
""")


def test_nothing_is_replaced_where_the_cpu_multiplies_bfloat16() -> None:
    run("""
before = torch.library.get_kernel("aten::mm", "CPU")
assert not widen_products()
assert str(torch.library.get_kernel("aten::mm", "CPU")) == str(before)
""", fast=True)  # fmt: skip


def test_a_model_in_bfloat16_turns_it_on() -> None:
    run("""
from burnish.models.load import load_model
from burnish.models.widened import widen_products
load_model("pebble", dtype="float32")
assert widen_products.cache_info().currsize == 0
load_model("pebble", dtype="bfloat16")
assert widen_products.cache_info().currsize == 1
""")
