"""Contenders PyTorch: eager mode with torch.optim, and a whole step through torch.compile."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .._common.validation import Array
from .cases import Case, Data
from .contender import Contender

__all__ = ["Compiled", "Eager"]


class _Torch(Contender):
    """Base of both contenders: data and weights as tensors, network and loss as functions of them."""

    device = "cpu"

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        torch = self._torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        self._X, self._y = self._to_device(data.X), self._to_device(data.y)
        self._mean = None if data.mean is None else self._to_device(data.mean)
        self._params = [torch.tensor(array, device=self.device) for array in weights]
        functional = torch.nn.functional
        self._activation = getattr(functional, case.activation, None) or getattr(torch, case.activation)
        self._loss = {
            "cross entropy": functional.cross_entropy,
            "binary cross entropy": lambda x, t: functional.binary_cross_entropy_with_logits(x[:, 0], t),
            "squared error": lambda x, t: functional.mse_loss(x[:, 0], t),
        }[case.loss]
        self._step: Callable[[Any], Any]

    def _to_device(self, array: Array) -> Any:
        return self._torch.from_numpy(array).to(self.device)

    def _gather(self, rows: Any) -> tuple[Any, Any]:
        # Twice as fast as X[rows] for short rows.
        x, target = self._X.index_select(0, rows), self._y.index_select(0, rows)
        return (x if self._mean is None else x.to(self._torch.float32) - self._mean), target

    def _forward(self, params: Any, x: Any, target: Any) -> Any:
        linear = self._torch.nn.functional.linear
        # PyTorch offers bf16 products only through autocast; tf32 is a setting of the process.
        autocast = self._torch.autocast(
            self.device, self._torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False
        )
        with autocast:
            for number in range(0, len(params) - 2, 2):
                x = self._activation(linear(x, params[number], params[number + 1]))
            x = linear(x, params[-2], params[-1])
        return self._loss(x.float(), target)

    def losses(self, order: Array) -> list[float]:
        """Run the first steps and return their losses."""
        return [float(self._step(rows)) for rows in self._to_device(order).unbind(0)]

    def weights(self) -> list[Array]:
        """Return copies of the parameters."""
        return [param.detach().cpu().numpy().copy() for param in self._params]

    def ready(self, order: Array) -> Callable[[], object]:
        """Return a function that runs the steps one after another."""
        rows, step = self._to_device(order).unbind(0), self._step

        def call() -> None:
            for batch in rows:
                step(batch)
            if self.device != "cpu":
                self._torch.cuda.synchronize()

        return call


class Eager(_Torch):
    """Autograd and torch.optim: the usual training loop."""

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        optim = self._torch.optim
        for param in self._params:
            param.requires_grad_()
        # On a GPU the fused optimizer is the fastest, but not the default.
        how = {} if self.device == "cpu" else {"fused": True}
        if case.optimizer == "Adam":
            optimizer = optim.Adam(self._params, lr=case.lr, eps=case.eps, capturable=self.device != "cpu", **how)
        else:
            optimizer = optim.SGD(self._params, lr=case.lr, momentum=case.momentum, **how)

        self._optimizer = optimizer

        def step(rows: Any) -> Any:
            loss = self._forward(self._params, *self._gather(rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        self._step = step


class Compiled(_Torch):
    """Gather, forward, backward and update in one compiled graph, through torch.func; needs a C++ compiler.

    For a small network this takes a quarter of the time of a step with a separately compiled optimizer.
    """

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        torch = self._torch
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.compile_threads = 1  # no compiler processes during the timing
        torch._dynamo.reset()
        gradient = torch.func.grad_and_value(self._forward)
        update = self._adam if case.optimizer == "Adam" else self._sgd
        # SGD: the velocity. Adam: the moments exp_avg and exp_avg_sq.
        self._slots = [[torch.zeros_like(param) for param in self._params] for _ in range(2)]
        # The step number has shape (1,): a compiled step of torch 2.13 does not add to a 0-d float64 tensor.
        self._count = torch.zeros(1, dtype=torch.float64, device=self.device)

        def step(rows: Any) -> Any:
            gradients, loss = gradient(self._params, *self._gather(rows))
            update(gradients)
            return loss

        # On a GPU the launches of a step take longer than the kernels: this mode records a CUDA graph.
        self._step = torch.compile(step, mode=None if self.device == "cpu" else "reduce-overhead")

    def _sgd(self, gradients: Any) -> None:
        for param, velocity, g in zip(self._params, self._slots[0], gradients):
            if self.case.momentum:
                g = velocity.mul_(self.case.momentum).add_(g)
            param.sub_(g, alpha=self.case.lr)

    def _adam(self, gradients: Any) -> None:
        self._count.add_(1)
        first, second = ((1 - beta**self._count).to(self._torch.float32) for beta in (0.9, 0.999))
        for param, mean, square, g in zip(self._params, *self._slots, gradients):
            mean.lerp_(g, 0.1)
            square.mul_(0.999).addcmul_(g, g, value=0.001)
            param.sub_(self.case.lr * (mean / first) / ((square / second).sqrt() + self.case.eps))
