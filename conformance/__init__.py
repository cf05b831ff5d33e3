"""The conformance suite: which handoffs of arrays share, copy, refuse, lose something, or kill the process.

`cases` know what is asked, `adapters` know the libraries, `results` are committed data. Three layers, one report:

- `protocol`: the obligations of DLPack's texts, one rule each (`rules.toml`), checked on the capsule itself;
- `handoff`: every ordered pair of libraries x dtype x layout x state, by three routes;
- `policy`: interop's own permission table over described arrays.

``interop conformance run`` runs it, ``python -m conformance run`` as well. Nothing in `interop` imports this package.
"""
