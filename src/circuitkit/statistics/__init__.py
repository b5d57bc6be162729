"""How sure a figure is: intervals, tests over many cells, effect sizes, and matched random controls.

Every random procedure takes its seed. Arrays may be NumPy's or torch's; a cell is one entry of the leading
axes, and examples lie along the last. A cell that is NaN throughout (a head that its layer lacks) stays NaN
and takes no part in any correction.
"""

from circuitkit.statistics.controls import Control, Head, against_controls, matched_control, matched_heads
from circuitkit.statistics.corrections import benjamini_hochberg, holm
from circuitkit.statistics.intervals import Interval, Intervals, bootstrap_mean, wilson
from circuitkit.statistics.matched import Others, against_others
from circuitkit.statistics.paired import Difference, McNemar, mcnemar, paired_bootstrap, pass_at_k
from circuitkit.statistics.permutation import SignFlipTest, sign_flip_test
from circuitkit.statistics.recovery import Recovered, recovered
from circuitkit.statistics.sizes import effect_size, jaccard
from circuitkit.statistics.time_series import BlockPermutation, block_permutation_test
from circuitkit.statistics.two_samples import GroupDifference, difference_of_groups

__all__ = [
    "BlockPermutation",
    "Control",
    "Difference",
    "GroupDifference",
    "Head",
    "Interval",
    "Intervals",
    "McNemar",
    "Others",
    "Recovered",
    "SignFlipTest",
    "against_controls",
    "against_others",
    "benjamini_hochberg",
    "block_permutation_test",
    "bootstrap_mean",
    "difference_of_groups",
    "effect_size",
    "holm",
    "jaccard",
    "matched_control",
    "matched_heads",
    "mcnemar",
    "paired_bootstrap",
    "pass_at_k",
    "recovered",
    "sign_flip_test",
    "wilson",
]
