"""Every error that the engine raises on purpose, drawn as one tree.

::

    PruneError
    ├── InputError                       what was sent cannot be used (exit status 2, HTTP 4xx)
    │   ├── SpecError                    spec_invalid
    │   ├── ModelError                   model_invalid
    │   │   ├── ModelEmptyError          model_empty
    │   │   ├── ModelFormatError         model_format_unknown
    │   │   ├── ModelFormatOffError      model_format_off
    │   │   ├── ModelUnsafeError         model_unsafe
    │   │   ├── ModelTooLargeError       model_too_large
    │   │   ├── ExternalDataError        model_external_data
    │   │   ├── UnsupportedOperatorError operator_unsupported
    │   │   ├── NoPrunableWeightsError   no_prunable_weights
    │   │   ├── WeightsNotFiniteError    model_not_finite
    │   │   └── ConversionError          model_conversion_failed
    │   ├── DataError                    data_invalid
    │   │   ├── DataEmptyError           data_empty
    │   │   ├── DataFormatError          data_format_unknown
    │   │   ├── DataUnsafeError          data_unsafe
    │   │   ├── UnknownDatasetError      dataset_unknown
    │   │   ├── DatasetUnavailableError  dataset_unavailable
    │   │   ├── TooFewSamplesError       data_too_few_samples
    │   │   ├── NotFiniteError           data_not_finite
    │   │   ├── LabelRangeError          labels_out_of_range
    │   │   ├── ShapeMismatchError       data_shape_mismatch
    │   │   └── PreprocessError          preprocess_not_found
    │   └── DeviceError                  device_unavailable
    └── EngineError                      the work itself failed (exit status 1)
        ├── OutOfMemoryError             out_of_memory
        ├── DivergedError                training_diverged
        └── VerificationError            verification_failed

A code never changes its meaning; `docs/errors.md` lists them all and a test holds the two together.
"""

from __future__ import annotations

from typing import ClassVar


class PruneError(Exception):
    """The root: a message a person can act on, a stable `code`, and the parameter that caused it.

    Args:
        message: what was wrong, where, and what to do about it.
        param: the request parameter to blame: "model", "dataset", "density", ...; None where there is none.
    """

    code: ClassVar[str] = "internal_error"
    exit_status: ClassVar[int] = 1
    default_param: ClassVar[str | None] = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param if param is not None else self.default_param


class InputError(PruneError):
    """What was sent cannot be used as it is."""

    code = "input_invalid"
    exit_status = 2


class SpecError(InputError):
    """A field of the specification is unknown, out of range or contradicts another."""

    code = "spec_invalid"
    default_param = "spec"


class ModelError(InputError):
    """The model file cannot be used."""

    code = "model_invalid"
    default_param = "model"


class ModelEmptyError(ModelError):
    """The model file has no bytes."""

    code = "model_empty"


class ModelFormatError(ModelError):
    """The file is no model format that Prunery reads."""

    code = "model_format_unknown"


class ModelFormatOffError(ModelError):
    """The file is of a format that whoever runs the service has switched off."""

    code = "model_format_off"


class ModelUnsafeError(ModelError):
    """The model file would do more than compute when it is loaded."""

    code = "model_unsafe"


class ModelTooLargeError(ModelError):
    """The graph asks for more memory, nodes, steps or nesting than any model needs, or than there is here."""

    code = "model_too_large"


class ExternalDataError(ModelError):
    """The ONNX file keeps weights in other files, which were not sent or are too short."""

    code = "model_external_data"


class UnsupportedOperatorError(ModelError):
    """The graph has operators, options, versions or types that cannot be trained; all are listed."""

    code = "operator_unsupported"


class NoPrunableWeightsError(ModelError):
    """The graph has no weight that could be pruned."""

    code = "no_prunable_weights"


class WeightsNotFiniteError(ModelError):
    """A weight of the model is NaN or infinite."""

    code = "model_not_finite"


class ConversionError(ModelError):
    """TorchScript or a `.pt2` archive could not be turned into an ONNX file that computes the same."""

    code = "model_conversion_failed"


class DataError(InputError):
    """The data cannot be used."""

    code = "data_invalid"
    default_param = "dataset"


class DataEmptyError(DataError):
    """The data file has no bytes."""

    code = "data_empty"


class DataFormatError(DataError):
    """The file is no data format that Prunery reads."""

    code = "data_format_unknown"


class DataUnsafeError(DataError):
    """The data file holds pickled objects, paths that leave its folder, or unpacks to far too much."""

    code = "data_unsafe"


class UnknownDatasetError(DataError):
    """No data set has this name."""

    code = "dataset_unknown"


class DatasetUnavailableError(DataError):
    """The data set is known but could not be fetched here."""

    code = "dataset_unavailable"


class TooFewSamplesError(DataError):
    """There are too few rows to train on and to measure with."""

    code = "data_too_few_samples"


class NotFiniteError(DataError):
    """The data holds NaN or infinity."""

    code = "data_not_finite"


class LabelRangeError(DataError):
    """A label lies beyond the model's classes."""

    code = "labels_out_of_range"


class ShapeMismatchError(DataError):
    """No known layout of the data fits the model's inputs."""

    code = "data_shape_mismatch"


class PreprocessError(DataError):
    """No preprocessing makes the dense model better than chance."""

    code = "preprocess_not_found"


class DeviceError(InputError):
    """The device that was asked for is not on this machine."""

    code = "device_unavailable"
    default_param = "device"


class EngineError(PruneError):
    """The work itself failed."""

    code = "engine_failed"


class OutOfMemoryError(EngineError):
    """More memory was asked for than there is."""

    code = "out_of_memory"


class DivergedError(EngineError):
    """The loss became NaN or infinite."""

    code = "training_diverged"


class VerificationError(EngineError):
    """The pruned model failed one of the checks that gate success, or the dense one is not computed alike."""

    code = "verification_failed"


def told(code: str, message: str, param: str | None = None) -> PruneError:
    """The error that another process told of by its code; of a code without a class, a bare `PruneError`."""
    kinds = [PruneError]
    for kind in kinds:
        kinds += [one for one in kind.__subclasses__() if one.__module__ == __name__]
    found = next((kind for kind in kinds if kind.code == code), PruneError)
    error = found(message, param=param)
    error.code = code  # type: ignore[misc]
    return error
