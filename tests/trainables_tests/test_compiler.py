"""What stands for torch's compiler, in a process of its own: pytest's may have loaded the real one."""

import subprocess
import sys

import pytest

BEGIN = """
import sys, torch
from trainables.compiler import without_compiler
without_compiler()
layer = torch.nn.Linear(3, 2)
def train(make):
    optimizer = make(layer.parameters(), lr=0.1, fused=True)
    layer(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
"""


def run(code: str) -> None:
    child = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_optimizers_do_not_import_the_compiler():
    run("""
for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    train(make)
assert not [name for name in sys.modules if name.startswith(("torch._dynamo.", "sympy"))]
""")


@pytest.mark.slow
def test_compiling_works_all_the_same():
    run("""
train(torch.optim.SGD)
before = layer(torch.ones(4, 3))
assert torch.equal(torch.compile(layer, backend="eager")(torch.ones(4, 3)), before)
import torch._dynamo
import torch._dynamo.config
assert len([name for name in sys.modules if name.startswith("torch._dynamo.")]) > 10
assert sys.modules["torch._dynamo"] is torch._dynamo and hasattr(torch._dynamo, "explain")
train(torch.optim.Adam)
""")


@pytest.mark.slow
def test_a_function_kept_out_of_compiled_code_stays_out():
    run("""
import torch._dynamo
seen = []
@torch._dynamo.disable
def apart(x):
    seen.append(torch.compiler.is_compiling())
    return x + 1
assert torch.compile(lambda x: apart(x) * 2, backend="eager")(torch.ones(2)).tolist() == [4.0, 4.0]
assert seen == [False]
""")
