"""What a conversion costs, as ratios to the raw primitives and the peers, measured side by side in one run.

Only ratios say something on a shared machine, and only those of neighbours in time: every case names the call
and what it is compared with, and the contestants take turns (`benchmarks.timing`).

=================  ===========================================================================
`case`             the row type of the tables: statements and budgets, nothing measured
`cases`            the table of the cases on the host
`gpu_cases`        the table of the cases on a CUDA device
`names`            what the names in the statements stand for
`timing`           turns, medians, spreads; pure arithmetic over a timer
`runner`           a case measured: rows of plain data
`imports`          what ``import interop`` loads and costs
`environment`      what the numbers belong to
`report`, `table`  the JSON, the table on the screen, the tables for the docs
`record`           results that are written as they come, and a run that goes on
`interrupts`       signals and the end of the time, as one exception
`run`, `gpu`       ``python -m benchmarks.run`` and ``python -m benchmarks.gpu``
=================  ===========================================================================
"""
