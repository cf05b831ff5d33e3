"""The conformance suite: which handoffs of arrays share, copy, refuse, lose something, or kill the process.

Three layers, one report:

- `protocol`: the obligations of DLPack's texts, one rule each (`protocol/rules.toml`), checked on the capsule itself;
- `matrix`: every ordered pair of libraries x dtype x layout x state, by three routes;
- `policy`: interop's own permission table over described arrays.

``interop conformance run`` runs it, ``python -m interop_conformance run`` as well. Nothing in `interop` imports this package.
"""
