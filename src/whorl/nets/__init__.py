"""Small reference architectures, their training, and files that describe themselves."""

from typing import TYPE_CHECKING, Any

from whorl.catalog import Catalog

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ESTIMATORS", "NETS"]

NETS: Catalog["nn.Module"] = Catalog(
    "nets",
    {
        "ensemble": "whorl.nets.ensemble:Ensemble",
        "lenet5": "whorl.nets.plain:LeNet5",
        "mlp": "whorl.nets.plain:MLP",
        "mlp_regressor": "whorl.nets.regression:MLPRegressor",
        "mobilenet": "whorl.nets.plain:MobileNet",
        "resnet": "whorl.nets.resnet:ResNet",
        "resnet8": "whorl.nets.named:resnet8",
        "resnet14": "whorl.nets.named:resnet14",
        "resnet20": "whorl.nets.named:resnet20",
        "vae": "whorl.nets.generative:VAE",
        "vgg": "whorl.nets.plain:VGG",
        "wrn": "whorl.nets.resnet:WideResNet",
        "wrn22-4": "whorl.nets.named:wrn22_4",
    },
    fixed=("input_shape", "classes"),
)

ESTIMATORS: Catalog[Any] = Catalog("estimators", {"random_forest": "whorl.nets.forest:random_forest"}, fixed=("seed",))
