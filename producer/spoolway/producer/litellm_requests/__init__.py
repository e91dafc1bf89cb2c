"""Requests as LiteLLM tells of them: in parts, in an order of its own, some of them never to the end.

Nothing here imports LiteLLM: what it tells is data, of shapes that nobody guarantees.
"""

from spoolway.producer.litellm_requests.requests import Requests

__all__ = ["Requests"]
