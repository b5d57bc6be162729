"""Linear centred kernel alignment of two sets of representations, exact over batches, with or without its bias."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Representations = Float[Tensor, "example feature"]


class RunningCKA:
    """Linear CKA of examples that come in batches: the same number as of all at once.

    The Gram matrices of n examples are never made. What the index takes from them are sums over examples, so that
    memory grows with features and not with examples, and nothing is approximated as the mean over minibatches is.

    Raises:
        ValueError: batches of other shapes, or that hold NaN or infinity; for the value, too few examples (2, or 4 for
            the debiased one), or representations that do not vary.

    >>> one = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    >>> running = RunningCKA()
    >>> for batch in one.split(10):
    ...     running.add(batch, batch)
    >>> round(running.value(), 6)
    1.0
    """

    def __init__(self) -> None:
        self.n = 0
        self._pairs: dict[str, _Sums] = {}
        self._origin: tuple[Tensor, Tensor] | None = None

    def add(self, x: Representations, y: Representations) -> None:
        """Take a batch in: row i of both is the same example; features may be as many in one as they like."""
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise ValueError(
                f"representations are [example, feature] of the same examples; got {x.shape} and {y.shape}"
            )
        if not len(x):
            return
        x, y = x.detach().double(), y.detach().double().to(x.device)
        if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise ValueError("representations hold NaN or infinity: look for what overflowed, or try float32")
        if self._origin is None:
            # The index does not change with the origin, and its sums lose fewer digits near the data's middle.
            self._origin = x.mean(0), y.mean(0)
            self._pairs = {"xy": _Sums(), "xx": _Sums(), "yy": _Sums()}
        widths = tuple(len(each) for each in self._origin)
        if widths != (x.shape[1], y.shape[1]):
            raise ValueError(f"a batch of {x.shape[1]} and {y.shape[1]} features among batches of {widths}")
        x, y = x - self._origin[0], y - self._origin[1]
        self.n += len(x)
        for name, (one, other) in {"xy": (x, y), "xx": (x, x), "yy": (y, y)}.items():
            self._pairs[name].add(one, other)

    def value(self, *, debiased: bool = True) -> float:
        """The index over all examples so far: see `cka`."""
        needed = 4 if debiased else 2
        if self.n < needed:
            raise ValueError(f"CKA needs {needed} examples at least; got {self.n}")
        cross, own_x, own_y = (self._pairs[name].independence(self.n, debiased) for name in ("xy", "xx", "yy"))
        if min(own_x, own_y) <= 0:
            raise ValueError("one of the representations is alike for all examples, so that nothing can be aligned")
        return cross / math.sqrt(own_x * own_y)


def cka(x: Representations, y: Representations, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment of two representations of the same examples, 1 where they are alike.

    It does not change when either is rotated, shifted or scaled as a whole. The plain index is between 0 and 1, but
    comes near 1 for any two representations with about as many features as examples; the debiased one is about 0
    for unrelated representations, whatever their widths, and may fall a little under it.

    Args:
        x: `[example, feature]`.
        y: `[example, feature]` of the same examples, of as many features as it has.
        debiased: with the unbiased estimator of both kernels' dependence.

    Raises:
        ValueError: as `RunningCKA` says.

    Source: Kornblith et al. 2019, arXiv 1905.00414; Song et al. 2012 (unbiased HSIC), as Nguyen, Raghu & Kornblith
    2021, arXiv 2010.15327, use it.

    >>> noise = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(40, 80, generator=noise), torch.randn(40, 80, generator=noise)
    >>> cka(x, y, debiased=False) > 0.4, abs(cka(x, y)) < 0.2
    (True, True)
    """
    running = RunningCKA()
    running.add(x, y)
    return running.value(debiased=debiased)


class _Sums:
    """Of two representations of the same examples, the sums over examples that their dependence is made of.

    For linear kernels K = XXᵀ and L = YYᵀ, with k_i = |x_i|² on K's diagonal.
    """

    def __init__(self) -> None:
        self.products: Tensor | float = 0.0  # XᵀY
        self.x: Tensor | float = 0.0
        self.y: Tensor | float = 0.0
        self.squares_x: Tensor | float = 0.0
        self.squares_y: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # Σ k_i l_i
        self.x_by_squares: Tensor | float = 0.0  # Σ x_i l_i
        self.y_by_squares: Tensor | float = 0.0  # Σ y_i k_i

    def add(self, x: Tensor, y: Tensor) -> None:
        squares_x, squares_y = x.square().sum(1), y.square().sum(1)
        self.products = self.products + x.T @ y
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.squares_x, self.squares_y = self.squares_x + squares_x.sum(), self.squares_y + squares_y.sum()
        self.squares = self.squares + (squares_x * squares_y).sum()
        self.x_by_squares = self.x_by_squares + squares_y @ x
        self.y_by_squares = self.y_by_squares + squares_x @ y

    def independence(self, n: int, debiased: bool) -> float:
        """The Hilbert-Schmidt independence criterion, but for a factor of n alone."""
        products, x, y = (torch.as_tensor(each) for each in (self.products, self.x, self.y))
        if not debiased:
            return float((products - torch.outer(x, y) / n).square().sum())
        # Of the Gram matrices without their diagonals: the trace of their product, their sums, and 1ᵀKL1.
        trace = products.square().sum() - self.squares
        sums = (x.square().sum() - self.squares_x) * (y.square().sum() - self.squares_y)
        rows = x @ products @ y - x @ self.x_by_squares - y @ self.y_by_squares + self.squares
        return float((trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3)))
