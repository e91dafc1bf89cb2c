"""The worker: stream → batch → database → ack, hosted by arq.

Reads like the data's way: `stream` (one consumer's commands), `intake` (what to read next), `batch`
(decode), `drain` (the loop), `stores` (PostgreSQL and SQLite), `dead` (what could not be stored).
`service` owns their lives, `jobs` are arq's cron jobs, `settings` is what `arq` is started with,
`cli` is the command.
"""
