"""Small reference architectures, their training, and files that describe themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.expressions import parse

if TYPE_CHECKING:
    from torch import nn

    from whorl.expressions import Call
    from whorl.nets.base import Net

__all__ = ["ESTIMATORS", "NETS"]


class _Nets(Catalog["nn.Module"]):
    """Architectures; what is wrong with somebody's own is said in a line.

    Code outside of whorl, as ``my_nets:make``, is no name of the catalog until `admit` was asked to run it.
    """

    def __init__(self, kind: str, targets: Mapping[str, str], *, fixed: tuple[str, ...] = ()) -> None:
        super().__init__(kind, targets, fixed=fixed)
        self._admitted: dict[str, Callable[..., Any]] = {}

    @property
    def admitted(self) -> tuple[str, ...]:
        """The code that this process may run, as worker processes are told."""
        return tuple(self._admitted)

    def admit(self, name: str) -> None:
        """Run the module of ``module:callable`` and take the callable for an architecture from now on.

        To be called where a person consented. Raises `UsageError` where there is no such thing.
        """
        from whorl.nets.own import found  # torch waits until a net is named

        if name not in self._admitted:
            self._admitted[name] = found(name)

    def __contains__(self, name: object) -> bool:
        return name in self._admitted or super().__contains__(name)

    def _target(self, name: str) -> str:
        if name in self._admitted:
            return name
        if ":" in name:
            raise UsageError(f"{name} is code, and code is run for a model only with --trust-code (trust_code=True)")
        return super()._target(name)

    def __getitem__(self, name: str) -> Callable[..., nn.Module]:
        return self._admitted[name] if name in self._admitted else super().__getitem__(name)

    def bind(self, expression: Call | str) -> Call:
        """As every catalog does; of code that was admitted the defaults stay in the code."""
        call = parse(expression) if isinstance(expression, str) else expression
        if call.name not in self._admitted:
            return super().bind(call)
        from whorl.nets.own import bound

        return bound(self[call.name], call, fixed=self.fixed)

    def make(self, expression: Call | str, **supplied: Any) -> nn.Module:
        """Build the net that an expression names. Raises `UsageError` where its class does not fit the catalog."""
        from whorl.nets.base import refuse_incomplete  # torch waits until a net is made

        call = self.bind(expression)
        if call.name in self._admitted:
            return self.make_own(call, **supplied)
        try:
            made = super().make(call, **supplied)
        except UsageError:
            raise
        except (TypeError, AttributeError, NotImplementedError) as error:  # how Python says that a class does not fit
            from whorl.storage import one_line

            raise UsageError(
                f"{expression} can't be built ({one_line(error)}). A net of the catalog takes input_shape and classes "
                "and gives them to whorl.nets.base.Classifier (or Regressor), defines embed and hidden_units, and "
                "calls its last layer head; whorl.testing.check_net checks it"
            ) from error
        refuse_incomplete(made)
        return made

    def make_own(self, expression: Call | str, *, input_shape: tuple[int, int, int], classes: int) -> Net:
        """The net that code which was admitted makes. Raises `UsageError` where it fails or does not fit the data."""
        from whorl.nets.own import made

        call = self.bind(expression)
        return made(self[call.name], call, input_shape=input_shape, classes=classes)


NETS = _Nets(
    "nets",
    {
        "autoencoded": "whorl.nets.autoencoded:Autoencoded",
        "ensemble": "whorl.nets.ensemble:Ensemble",
        "lenet5": "whorl.nets.plain:LeNet5",
        "capped": "whorl.nets.capped:Capped",
        "misinforming": "whorl.nets.misinforming:Misinforming",
        "mlp": "whorl.nets.plain:MLP",
        "mlp_regressor": "whorl.nets.regression:MLPRegressor",
        "mobilenet": "whorl.nets.plain:MobileNet",
        "resnet": "whorl.nets.resnet:ResNet",
        "resnet8": "whorl.nets.named:resnet8",
        "resnet14": "whorl.nets.named:resnet14",
        "resnet20": "whorl.nets.named:resnet20",
        "timm": "whorl.nets.timm:TimmNet",
        "vae": "whorl.nets.generative:VAE",
        "vgg": "whorl.nets.plain:VGG",
        "vgg16": "whorl.nets.plain:VGG16",
        "wrn": "whorl.nets.resnet:WideResNet",
        "wrn22-4": "whorl.nets.named:wrn22_4",
    },
    fixed=("input_shape", "classes"),
)
"""Architectures by name, as recipes name them: ``NETS.bind("resnet8(width=8)")``."""

ESTIMATORS: Catalog[Any] = Catalog("estimators", {"random_forest": "whorl.nets.forest:random_forest"}, fixed=("seed",))
