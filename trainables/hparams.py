"""A trial's parameters as TensorBoard's HParams tab reads them.

TensorBoard makes the table's columns of all the trials it finds. A description of the whole experiment
would come in their stead, and no trial knows the parameters that only others have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata


def session_start(name: str, params: Mapping[str, Any], seconds: float) -> Summary:
    """What a trial is called and which parameters it has; `seconds` since 1970 is when it began."""
    info = SessionStartInfo(group_name=name, start_time_secs=seconds)
    for key, value in params.items():
        field = info.hparams[key]
        if isinstance(value, bool):
            field.bool_value = value
        elif isinstance(value, int | float):
            field.number_value = value
        else:
            field.string_value = str(value)
    return _summary("_hparams_/session_start_info", HParamsPluginData(session_start_info=info))


def session_end(seconds: float) -> Summary:
    """That a trial was trained to its last epoch, at `seconds` since 1970."""
    info = SessionEndInfo(status=Status.Value("STATUS_SUCCESS"), end_time_secs=seconds)
    return _summary("_hparams_/session_end_info", HParamsPluginData(session_end_info=info))


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    data = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data))])
