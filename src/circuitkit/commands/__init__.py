"""The verbs of the command line, a module each, or a folder where a verb has several studies.

A verb is a function of its own name, or a cyclopts `App` whose default command is the plain study and whose others are
its relatives. Signature and docstring are options and help: what comes before `*` is positional, the rest are options,
and a numpy-style "Parameters" section documents each. A verb returns None, or its exit status. To add one, write
`circuitkit/commands/verb.py` with `def verb(...)` and name it, with a line of help, in `circuitkit.cli.VERBS`. Modules
here are imported when their verb's help is shown, which torch is too slow for: what runs a study is imported inside. A
verb that takes a model takes `load_as: LoadAs | None = None` too, the loading options, and calls
`circuitkit.commands.loading.load(model, load_as)`.
"""
