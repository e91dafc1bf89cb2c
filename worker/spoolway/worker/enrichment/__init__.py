"""Cost and footprint of requests whose proxy sent none.

    enricher = Enricher.of(settings)                  # None: nothing is to be filled in
    items = enricher.enrich(items)                    # on the way to the database; never raises

The way: what was counted (`consumed`), what it costs (`own`, `genai`, both as `rates`), what it took
(`footprint`). A library is asked about a model once, in a thread of its own (`aside`), and what it
said is kept as plain numbers: an event costs microseconds, and a library that fails or hangs costs
its part of the answer, never an event.
"""

from spoolway.worker.enrichment.enricher import Counts, Enricher

__all__ = ["Counts", "Enricher"]
