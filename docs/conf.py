"""How the documentation is built: `make docs`, with no network, and every warning an error."""

import sys
from pathlib import Path

import circuitkit

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "circuitkit"
author = "The circuitkit developers"
version = release = circuitkit.__version__
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "public_names", "offline"]
exclude_patterns = ["extensions", "notebooks/.ipynb_checkpoints"]
root_doc = "index"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Told by name, where what they stand for would take five lines.
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "Prompts": "Prompts"}
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False
# Parameters that are told of together stay together.
napoleon_use_param = False
napoleon_attr_annotations = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# Everything that is referred to has to be there, but for:
nitpick_ignore_regex = [
    # types of other libraries, whose pages cannot be asked without a network, and aliases and fields by their bare
    # name, which no directive documents;
    ("py:class", r"(?!circuitkit\.).*"),
    # a literal type's choices, which are split at their commas;
    ("py:obj", r"typing\.Literal\[.*"),
    # what a documented result holds and its attributes tell of;
    ("py:class", r"circuitkit\.circuits\.(attributing|comparing|evaluating|graphs)\.\w+\.[A-Z]\w+"),
    ("py:class", r"circuitkit\.sfn\.(differences|response_levels|written)\.\w+\.[A-Z]\w+"),
    ("py:class", r"circuitkit\.interop\.nnsight\.\w+\.[A-Z]\w+"),
    ("py:class", r"circuitkit\.(model\.(probe\.Layer|points\.Point)|run\.edits\.Edit|studies\.records\.Stored)"),
    ("py:class", r"circuitkit\.(report\.(section\.Section|contents\.Contents)|training\.subsets\.ExampleT)"),
    ("py:class", r"circuitkit\.tasks\.(sources\.Rows?|prontoqa\.derivation\.Grade)"),
    # errors that are caught by the documented base: SfnError, and ValueError of a sweep's damaged record.
    ("py:exc", r"FillingError|InitialisationError|PassingError|SpoiledError"),
]
# Errors of two modules may have one name (PairError of pairs and of sfn): the nearest is linked.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "circuitkit"
html_copy_source = False
html_show_sphinx = False
# No fonts, scripts or pictures of other hosts: pages read the same without a network.
html_theme_options = {"navigation_with_keys": True}
