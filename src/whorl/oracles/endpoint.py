"""The description of an HTTP endpoint. It names the environment variable of the key and never holds the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from whorl.errors import UsageError
from whorl.oracles.formats import shorten

__all__ = ["HttpSettings"]

_ADDRESS: Final = "an address such as https://host:port is needed"
_SECRET: Final = re.compile(r"(key|token|secret|passwo?r?d|signature|(^|[-_.])(sig|auth))$")


class HttpSettings(BaseModel):
    """Where an endpoint is, what it speaks, and how fast it may be asked. Holds no key.

    Parameters:
        url: address of the server; of the model itself for ``huggingface`` and ``template``. Without a key.
        protocol: ``v2`` (Open Inference Protocol: KServe, Triton, MLServer), ``tensorflow`` (TensorFlow Serving),
            ``huggingface`` (image classification) or ``template`` (any other JSON API).
        model: the model's name on the server, ``NAME/versions/2`` for one version.
        input_name, output_name, datatype: names of tensors and the data type, asked from a v2 server where empty.
        binary: send and ask for the tensors of ``v2`` as bytes; where None, if the server lists that extension.
        classification: ask Triton for the best so many classes of an output; 0 for the output as it is.
        signature: signature of a TensorFlow model; its default where empty.
        template, answer: jinja2 body and JMESPath answer, see `whorl.oracles.protocols.Template`.
        flat: send a picture as one row of numbers.
        batch: inputs per request (1 for ``huggingface``).
        concurrency: requests on their way at the same time.
        rate: requests per second at most; None for no limit.
        timeout: seconds for a connection, for a silence, and for a whole body.
        retries: further attempts after 408, 429, 5xx, a lost connection or a time-out.
        max_wait: seconds at most between two attempts; an endpoint that asks for more ends in an error.
        max_response_bytes: where the body of an answer is cut off.
        key_env: NAME of the environment variable that holds the API key, in capitals.
        key_header, key_scheme: how the key is sent: ``Authorization: Bearer KEY`` unless told otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    url: str = Field(max_length=4096)
    protocol: Literal["v2", "tensorflow", "huggingface", "template"] = "v2"
    model: str = Field("", max_length=1024)
    input_name: str = ""
    output_name: str = ""
    datatype: str = ""
    binary: bool | None = None
    classification: int = Field(0, ge=0, le=10**6)
    signature: str = ""
    template: str = ""
    answer: str = ""
    flat: bool = False
    batch: int = Field(32, ge=1)
    concurrency: int = Field(4, ge=1, le=256)
    rate: float | None = Field(None, gt=0)
    timeout: float = Field(30.0, gt=0)
    retries: int = Field(4, ge=0, le=100)
    max_wait: float = Field(60.0, ge=0)
    max_response_bytes: int = Field(64 * 2**20, ge=1)
    key_env: str | None = None
    key_header: str = Field("Authorization", pattern=r"^[A-Za-z0-9-]+$")
    key_scheme: str = Field("Bearer", pattern=r"^[A-Za-z0-9-]*$")

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> HttpSettings:
        """Settings from a file or the command line. Raises `UsageError`, one line that shows no value."""
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise UsageError(
                    f"HTTP endpoints have no setting {shorten(place)!r}. Known: {', '.join(cls.model_fields)}. "
                    "A key goes into an environment variable, whose name is key_env"
                ) from None
            message = shorten(first["msg"].removeprefix("Value error, "), 300)
            raise UsageError(f"HTTP endpoint: {place}{': ' if place else ''}{message}") from None

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            sound = parts.port != 0 and parts.scheme in ("http", "https") and parts.hostname and not parts.fragment
        except ValueError:  # its message would show the address
            raise ValueError(_ADDRESS) from None
        if not sound or not url.isprintable():
            raise ValueError(_ADDRESS)
        names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        if parts.username or parts.password or any(_SECRET.search(name) for name in names):
            raise ValueError(
                "the address holds a key; put the key into an environment variable and give its name as key_env"
            )
        return url

    @field_validator("key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not (name.replace("_", "").isalnum() and name.isascii() and name == name.upper()):
            raise ValueError("the NAME of an environment variable in capitals is needed, not the key itself")
        return name

    @model_validator(mode="after")
    def _complete(self) -> HttpSettings:
        if self.protocol in ("v2", "tensorflow") and not self.model:
            told = "needs model, its name on the server: --set model=NAME (in Python model=)"
            raise ValueError(f"the protocol {self.protocol} {told}")
        if self.protocol != "v2" and (self.binary is not None or self.classification):
            raise ValueError(f"binary and classification are for the protocol v2; this is {self.protocol}")
        wanted = self.protocol == "template"
        if wanted != bool(self.template) or wanted != bool(self.answer):
            raise ValueError("template and answer are both needed for the protocol template, and for no other")
        return self
