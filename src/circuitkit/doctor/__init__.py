"""Whether a model can be trusted in a study: checks of the model and its tap, on the machine that they will run on."""

from circuitkit.doctor.examination import Check, Examination, examine

__all__ = ["Check", "Examination", "examine"]
