"""What a conversion costs, as ratios to the raw primitives and the peers, measured side by side in one run.

Only ratios say something on a shared machine, and only those of neighbours in time: every case names the call
and what it is compared with, and the contestants take turns (`benchmarks.timing`).

=================  ===========================================================================
`case`             the row type of the tables: statements and budgets, nothing measured
`cases`, `gpu`     the tables, on the host and on a CUDA device
`names`            what the names in the statements stand for
`timing`           turns, medians, spreads; pure arithmetic over a timer
`runner`           a case measured: rows of plain data
`imports`          what ``import interop`` loads and costs
`environment`      what the numbers belong to
`report`, `table`  the JSON, the table on the screen, the table for the docs
`run`              ``python -m benchmarks.run``
=================  ===========================================================================
"""
