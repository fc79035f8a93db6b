from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_engine.training.teacher import Teacher


class Rows:
    """Twelve rows of three numbers."""

    def __init__(self) -> None:
        self.inputs = torch.arange(36.0).reshape(12, 3)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, index: Tensor | slice) -> tuple[tuple[Tensor, ...], None]:
        return (self.inputs[index],), None


class Counting(nn.Module):
    """A linear layer that counts the rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.rows = [0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.rows[0] += len(x)
        return (self.linear(x),)

    def __deepcopy__(self, memo: object) -> Counting:
        copied = Counting()
        copied.load_state_dict(self.state_dict())
        copied.rows = self.rows
        return copied


def asked(teacher: Teacher, rows: Rows, index: Tensor) -> Tensor:
    return teacher(index, rows.batch(index)[0])[0]


def test_a_row_is_computed_when_it_is_first_asked_for_and_never_again() -> None:
    module, rows = Counting(), Rows()
    teacher = Teacher(module, rows, expected_rows=100, fixed_batch=None, at_once=False)  # type: ignore[arg-type]
    before = module.rows[0]
    assert before <= 2
    for _ in range(3):
        for index in torch.arange(12).split(4):
            expected = module.linear(rows.inputs[index])
            assert torch.allclose(asked(teacher, rows, index), expected)
    assert module.rows[0] - before == 12


def test_what_the_student_learns_does_not_change_the_teacher() -> None:
    module, rows = Counting(), Rows()
    teacher = Teacher(module, rows, expected_rows=1, fixed_batch=None)  # type: ignore[arg-type]
    first = asked(teacher, rows, torch.arange(4))
    nn.init.zeros_(module.linear.weight)
    assert torch.equal(asked(teacher, rows, torch.arange(4)), first)


def test_all_rows_are_computed_before_the_training_where_there_is_time() -> None:
    module, rows = Counting(), Rows()
    with torch.no_grad():
        expected = module.linear(rows.inputs)
    module.train()
    teacher = Teacher(module, rows, expected_rows=12, fixed_batch=None)  # type: ignore[arg-type]
    assert module.training
    before = module.rows[0]
    nn.init.zeros_(module.linear.weight)
    assert torch.allclose(asked(teacher, rows, torch.arange(12)), expected)
    assert module.rows[0] == before
