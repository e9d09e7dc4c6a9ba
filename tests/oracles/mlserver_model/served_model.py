"""What MLServer runs in the tests, in its own environment: an ONNX file, or the weights of a linear model."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from mlserver.utils import get_model_uri

NUMPY = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int64)": "INT64"}


class ServedModel(MLModel):
    async def load(self) -> bool:
        path = await get_model_uri(self.settings)
        self.session = self.weights = None
        if path.endswith(".npy"):
            self.weights = np.load(path, allow_pickle=False)  # [inputs, classes]
            self.inputs = [MetadataTensor(name="pictures", datatype="FP32", shape=[-1, len(self.weights)])]
            self.outputs = [MetadataTensor(name="logits", datatype="FP32", shape=[-1, self.weights.shape[1]])]
        else:
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            self.inputs = [_described(tensor) for tensor in self.session.get_inputs()]
            self.outputs = [_described(tensor) for tensor in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (tensor,) = payload.inputs
        values = NumpyCodec.decode_input(tensor)
        arrays = [values @ self.weights] if self.session is None else self.session.run(None, {tensor.name: values})
        outputs = [
            NumpyCodec.encode_output(described.name, array)
            for described, array in zip(self.outputs, arrays, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _described(tensor) -> MetadataTensor:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return MetadataTensor(name=tensor.name, datatype=NUMPY[tensor.type], shape=shape)
