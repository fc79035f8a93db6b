"""What an uploaded file is, by cheap means: first bytes, lengths, directories. Contents are the child's."""

from service.sniffing.data import DataFormat, DataSniffer
from service.sniffing.model import ModelFormat, ModelSniffer
from service.sniffing.tokenizer import TokenizerSniffer
from service.sniffing.zip_directory import ReadRange

__all__ = ["DataFormat", "DataSniffer", "ModelFormat", "ModelSniffer", "ReadRange", "TokenizerSniffer"]
