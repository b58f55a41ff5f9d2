"""`verify`: the record against everything that bears witness to it, and some of its rows measured again."""

from lab.verify.again import measure_again as measure_again
from lab.verify.found import Findings as Findings
from lab.verify.record import examine as examine
