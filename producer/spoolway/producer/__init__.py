"""What a proxy installs: `Producer` takes its events and pushes them to a Redis stream.

    producer = Producer()
    with producer.record(model_name="gpt-4o", path="/v1/chat/completions") as record:
        ...
        record.set(http_status=200, prompt_tokens=12)

Nothing here may wait for the network, raise into a request, or grow without a bound; nor import
arq, SQLAlchemy or Alembic.
"""

from spoolway.producer.identity import Identify, by_api_key, key_id
from spoolway.producer.producer import Producer
from spoolway.producer.record import Outcome, Record
from spoolway.producer.redaction import REDACTED, HeaderRules, Redaction
from spoolway.producer.stats import ProducerStats

__all__ = [
    "REDACTED",
    "HeaderRules",
    "Identify",
    "Outcome",
    "Producer",
    "ProducerStats",
    "Record",
    "Redaction",
    "by_api_key",
    "key_id",
]
