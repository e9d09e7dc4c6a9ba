"""Small reference architectures, their training, and files that describe themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whorl.catalog import Catalog
from whorl.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from whorl.expressions import Call

__all__ = ["ESTIMATORS", "NETS"]


class _Nets(Catalog["nn.Module"]):
    """Architectures; what is wrong with somebody's own is said in a line."""

    def make(self, expression: Call | str, **supplied: Any) -> nn.Module:
        """Build the net that an expression names. Raises `UsageError` where its class does not fit the catalog."""
        from whorl.nets.base import refuse_incomplete  # torch waits until a net is made

        try:
            made = super().make(expression, **supplied)
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


NETS: Catalog[nn.Module] = _Nets(
    "nets",
    {
        "autoencoded": "whorl.nets.autoencoded:Autoencoded",
        "ensemble": "whorl.nets.ensemble:Ensemble",
        "lenet5": "whorl.nets.plain:LeNet5",
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

ESTIMATORS: Catalog[Any] = Catalog("estimators", {"random_forest": "whorl.nets.forest:random_forest"}, fixed=("seed",))
