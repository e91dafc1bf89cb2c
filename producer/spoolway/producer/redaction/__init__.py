"""What of an event must not be kept, and how it is found: in names, in texts, in whole lines.

    Producer(redaction=Redaction(names=["tenant_pin"], keep={"/v1/private/*": "metadata"}))

`policy` decides, `headers`, `query` and `keep` do their columns; for all else `patterns` looks for a
candidate in the encoded line, in one search, and `secrets_in_text` goes after what it finds.
"""

from spoolway.producer.redaction.headers import REDACTED, HeaderRules
from spoolway.producer.redaction.policy import Hook, Redaction, said

__all__ = ["REDACTED", "HeaderRules", "Hook", "Redaction", "said"]
