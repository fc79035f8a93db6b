"""A multipart/form-data body as a stream of parts; nothing is spooled to disk or kept in memory."""

from service.multipart.headers import boundary_of
from service.multipart.reader import MultipartReader, Part

__all__ = ["MultipartReader", "Part", "boundary_of"]
