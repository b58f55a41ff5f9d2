"""What a diff touches that decides what its number means: facts with file and line, never a proof.

A fact is flagged, and a person or an agent looks; only what the settings forbid is refused.
"""

from lab.lint.diff import Fact as Fact
from lab.lint.diff import lint as lint
from lab.lint.diff import module_of as module_of
from lab.lint.diff import shadowing as shadowing
from lab.lint.touches import About as About
