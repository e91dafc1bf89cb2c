"""The roll-ups: what a batch leaves for them, how it adds up, and what of them is wrong.

Nothing here asks a database but `reading`: the stores do (`spoolway.worker.stores.rollup_postgres`,
`rollup_sqlite`).
"""
