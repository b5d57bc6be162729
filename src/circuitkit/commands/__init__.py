"""The verbs of the command line, a module each.

A verb is a function in a module of its own name, whose signature and docstring are its options and its help: what
comes before `*` is positional, the rest are options, and a numpy-style "Parameters" section documents each. It returns
None, or its exit status. To add one, write `circuitkit/commands/verb.py` with `def verb(...)` and name it, with a line
of help, in `circuitkit.cli.VERBS`. Modules here are imported when their verb is used, so they import what they like. A
verb that takes a model takes `load_as: LoadAs | None = None` too, the loading options, and calls
`circuitkit.commands.loading.load(model, load_as)`.
"""
