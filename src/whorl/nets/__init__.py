"""Small reference architectures, their training, and files that describe themselves."""

from typing import TYPE_CHECKING, Any

from whorl.catalog import Catalog

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ESTIMATORS", "NETS"]

NETS: Catalog["nn.Module"] = Catalog(
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
